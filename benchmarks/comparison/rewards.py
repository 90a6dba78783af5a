"""A reward that takes no time, so that only the training is compared."""

from collections.abc import Sequence
from typing import Any


def share_of_e(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return the fraction of the letter e in each response."""
    return [response.count("e") / max(len(response), 1) for response in responses]


def for_trl(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """Return the same, with the signature of TRL's rewards."""
    return share_of_e(prompts, completions)
