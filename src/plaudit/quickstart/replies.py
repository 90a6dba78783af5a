"""The concierge's replies: slot values, courtesy, length and rudeness vary independently."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from plaudit.quickstart.lexicon import COURTESY, FILLERS, RUDE, VALUES
from plaudit.quickstart.requests import Request


@dataclass(frozen=True)
class Habits:
    """Probabilities of a reply's properties.

    ``right`` and ``wrong`` apply to each slot (otherwise it is left out), ``courtesy`` to each kind of courtesy,
    ``rude`` to a rude sentence, and ``fillers[n]`` to n filler sentences.
    """

    right: float
    wrong: float
    courtesy: float
    rude: float
    fillers: tuple[float, ...]


MIXED = Habits(right=0.72, wrong=0.08, courtesy=0.5, rude=0.16, fillers=(0.5, 0.3, 0.2))
"""Habits of mixed quality, for the demonstrations and the compared replies."""


@dataclass(frozen=True)
class ReplyPlan:
    """The content of a reply. ``slots`` holds the values that it names; slots that it leaves out are missing."""

    slots: Mapping[str, str]
    courtesy: frozenset[str]
    fillers: int
    rude: bool


def plan_reply(request: Request, habits: Habits, random_numbers: random.Random) -> ReplyPlan:
    """Draw each property of a reply, independently of the others."""
    slots = {}
    for slot, value in request.values.items():
        chance = random_numbers.random()
        if chance < habits.right:
            slots[slot] = value
        elif chance < habits.right + habits.wrong:
            slots[slot] = random_numbers.choice([other for other in VALUES[slot] if other != value])
    return ReplyPlan(
        slots=slots,
        courtesy=frozenset(mark for mark in COURTESY if random_numbers.random() < habits.courtesy),
        fillers=random_numbers.choices(range(len(habits.fillers)), habits.fillers)[0],
        rude=random_numbers.random() < habits.rude,
    )


def write_confirmation(request: Request, slots: Mapping[str, str], random_numbers: random.Random) -> str:
    """Return the sentence that grants the request and names ``slots``."""
    kind = request.kind
    named = [kind.fragments[slot].format(**slots) for slot in kind.slots if slot in slots]
    return " ".join([random_numbers.choice(kind.heads), *named]) + "."


def write_sentences(request: Request, plan: ReplyPlan, random_numbers: random.Random) -> list[str]:
    """Return the reply's sentences: greeting, thanks, confirmation, fillers, closing; a rude one next to the second."""
    middle = [write_confirmation(request, plan.slots, random_numbers), *random_numbers.sample(FILLERS, plan.fillers)]
    if plan.rude:
        middle.insert(random_numbers.randrange(2), random_numbers.choice(RUDE))
    courtesy = {mark: [random_numbers.choice(COURTESY[mark])] for mark in COURTESY if mark in plan.courtesy}
    return [*courtesy.get("greeting", []), *courtesy.get("thanks", []), *middle, *courtesy.get("closing", [])]


def write_reply(request: Request, habits: Habits, random_numbers: random.Random) -> str:
    """Return a random reply according to ``habits``."""
    return " ".join(write_sentences(request, plan_reply(request, habits, random_numbers), random_numbers))
