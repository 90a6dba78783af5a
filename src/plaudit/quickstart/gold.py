"""The gold score: an exact score of a reply, used only for evaluation. No model is trained on it."""

from collections.abc import Sequence

from plaudit.quickstart.qualities import read_reply
from plaudit.quickstart.requests import read_prompt

SERVICE, COURTESY, LENGTH = 0.55, 0.30, 0.15
"""Maximum contributions to the score of a correct reply: the service itself, courtesy, and a suitable length."""

RUDE_FACTOR = 0.25
FAULT_FACTOR = 0.5


def gold_score(prompt: str, reply: str) -> float:
    """Return how good ``reply`` is as an answer to ``prompt``, from 0 (useless) to 1 (perfect).

    gold = correctness * (0.55 + 0.30 * politeness + 0.15 * fit_of_length) * tone * form, where

    - correctness = max(0, (right - wrong / 2) / slots): of the request's slots, the number that the confirmation
      names with the right and with a wrong value. A slot named with several values is wrong. Without a confirmation of
      the right kind of request the score is 0.
    - politeness = fraction of greeting, thanks and closing that occur.
    - fit_of_length = 1 from 8 to 36 tokens (words and punctuation marks), min(tokens / 8, (56 - tokens) / 20) outside,
      at least 0.
    - tone = 0.25 if a rude word occurs, else 1.
    - form = 0.5 ** faults. Faults: each sentence that the world does not contain, including unfinished ones; each
      sentence that repeats another or has the same role as another (a second greeting, a second confirmation); a
      greeting that is not first; a closing that is not last.

    Raises PlauditError if ``prompt`` is not a request of this world; ``reply`` may be any text.
    """
    qualities = read_reply(read_prompt(prompt), reply)
    merit = SERVICE + COURTESY * qualities.politeness + LENGTH * qualities.fit_of_length
    tone = RUDE_FACTOR if qualities.rude else 1.0
    return qualities.correctness * merit * tone * FAULT_FACTOR**qualities.faults


def gold_scores(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return the gold score of each response to its prompt."""
    return [gold_score(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
