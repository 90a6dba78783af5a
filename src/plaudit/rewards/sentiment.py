"""Sentiment of a text by VADER (Hutto & Gilbert 2014), a word list with rules."""

from functools import cache
from typing import Any

from plaudit.errors import PlauditError


def vader_compound(prompts: list[str], responses: list[str]) -> list[float]:
    """Return the compound score of each response, from -1 (most negative) to 1; prompts are ignored."""
    return [_analyzer().polarity_scores(response)["compound"] for response in responses]


@cache
def _analyzer() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError as error:
        raise PlauditError("VADER is not installed; install it with: pip install 'plaudit[stories]'") from error
    return SentimentIntensityAnalyzer()
