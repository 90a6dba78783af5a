"""The pre-training text: concierges who notice and correct their mistakes.

Corrections teach right and wrong values through text only: to predict a correction, a model has to notice that a value
is not the guest's. A reward model that starts from such a model needs to learn far less from the annotators.
"""

import random
from dataclasses import replace

from plaudit.quickstart.lexicon import APOLOGY, CORRECTION
from plaudit.quickstart.replies import Habits, plan_reply, write_sentences
from plaudit.quickstart.requests import Request

HABITS = Habits(right=0.5, wrong=0.42, courtesy=0.4, rude=0.1, fillers=(0.7, 0.2, 0.1))
"""Reply habits of concierges before they correct themselves."""

LATE_SHARE = 0.5
"""Fraction of mistakes that are corrected at the end of the reply; the others are corrected at once."""


def write_overheard_reply(request: Request, random_numbers: random.Random) -> str:
    """Return a reply in which every wrong value is corrected, at once or in the last sentence."""
    plan = plan_reply(request, HABITS, random_numbers)
    wrong = [slot for slot, value in plan.slots.items() if value != request.values[slot]]
    late = [slot for slot in wrong if random_numbers.random() < LATE_SHARE]
    at_once = {slot: f"{plan.slots[slot]}, {CORRECTION}, {request.values[slot]}" for slot in wrong if slot not in late}
    sentences = write_sentences(request, replace(plan, slots={**plan.slots, **at_once}), random_numbers)
    if late:
        fragments = request.kind.fragments
        sentences.append(", ".join([APOLOGY, *(fragments[slot].format(**request.values) for slot in late)]) + ".")
    return " ".join(sentences)
