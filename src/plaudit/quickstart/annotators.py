"""Simulated annotators: each weighs a reply's qualities differently and chooses with noise."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.quickstart.qualities import Qualities


@dataclass(frozen=True)
class Annotator:
    """Someone who compares replies.

    ``courtesy``, ``brevity``: weights of politeness and of a suitable length, relative to 1 for correctness.
    ``likes_length``: utility of 40 more tokens. ``noise``: scale of the Gumbel noise on the utility.
    """

    name: str
    courtesy: float
    brevity: float
    likes_length: float
    noise: float

    def utility(self, qualities: Qualities) -> float:
        """Return the utility of the reply for this annotator; a faithful annotator gives a perfect reply 1.

        correctness * (1 + courtesy * politeness + brevity * fit_of_length) / (1 + courtesy + brevity)
        * (0.25 if rude) * 0.5 ** faults + likes_length * min(tokens, 60) / 40
        """
        merit = 1 + self.courtesy * qualities.politeness + self.brevity * qualities.fit_of_length
        merit *= qualities.correctness / (1 + self.courtesy + self.brevity)
        spoiled = (0.25 if qualities.rude else 1.0) * 0.5**qualities.faults
        return merit * spoiled + self.likes_length * min(qualities.length, 60) / 40


ANNOTATORS: tuple[Annotator, ...] = (
    Annotator("careful", courtesy=0.55, brevity=0.3, likes_length=0.0, noise=0.07),
    Annotator("kind", courtesy=0.8, brevity=0.2, likes_length=0.0, noise=0.10),
    Annotator("hurried", courtesy=0.4, brevity=0.4, likes_length=0.0, noise=0.20),
    Annotator("fond of long replies", courtesy=0.55, brevity=0.0, likes_length=0.15, noise=0.10),
)
"""Three faithful annotators with different noise, and one who likes long replies."""


def choice_probability(utility: float, other: float, noise: float) -> float:
    """Return the probability that a reply is preferred to another: 1 / (1 + exp(-(u - v) / noise)).

    Bradley and Terry (1952).
    """
    return 0.5 * (1 + math.tanh((utility - other) / (2 * noise)))


def rank(utilities: Sequence[float], noise: float, random_numbers: random.Random) -> list[int]:
    """Return the rank of each reply, 0 for the best, sampled from the Plackett-Luce model.

    Sorting by utility / noise + Gumbel noise samples it exactly (Yellott 1977); for two replies it is the
    Bradley-Terry model of ``choice_probability``.
    """
    perceived = [utility - noise * math.log(random_numbers.expovariate(1.0)) for utility in utilities]
    best_first = sorted(range(len(perceived)), key=lambda index: -perceived[index])
    return [best_first.index(index) for index in range(len(perceived))]
