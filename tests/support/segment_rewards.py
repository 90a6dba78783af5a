"""A reward function for tests of responses that contain tokens that the policy did not write."""

from collections.abc import Sequence


def first_word(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Score a response by the number in its first word; tokens that come later change nothing."""
    first = [(response.split() or [""])[0] for response in responses]
    return [float(word[1:]) if word[1:].isdigit() else 0.0 for word in first]
