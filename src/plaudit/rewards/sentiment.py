"""Sentiment of a text by VADER (Hutto & Gilbert 2014), a word list with rules."""

from functools import cache
from typing import Any

from plaudit.errors import PlauditError
from plaudit.packages import missing_package

# Checked when a recipe names the function, before any stage of the run starts.
if missing := missing_package("vaderSentiment>=3.3.2"):
    raise PlauditError(f"VADER {missing}; install it with: pip install 'plaudit[stories]'")


def vader_compound(prompts: list[str], responses: list[str]) -> list[float]:
    """Return the compound score of each response, from -1 (most negative) to 1; prompts are ignored."""
    return [_analyzer().polarity_scores(response)["compound"] for response in responses]


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
