"""Guests' requests: drawn at random, written as prompts, parsed from prompts, and divided among the uses."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

from plaudit.errors import PlauditError
from plaudit.quickstart.lexicon import CONCIERGE, GUEST, KINDS, OPENINGS, VALUES, Kind, words

USES = {"pretraining": 0.40, "demonstrations": 0.15, "comparisons": 0.25, "prompts": 0.15, "test": 0.05}
"""Use of a prompt -> fraction of all possible requests that it gets."""

_KIND_OF_SLOTS = {frozenset(kind.slots): kind for kind in KINDS}
_SLOT_OF_VALUE = {value: slot for slot, values in VALUES.items() for value in values}


@dataclass(frozen=True)
class Request:
    """What a guest wants: a kind and a value for each of its slots."""

    kind: Kind
    values: Mapping[str, str]

    @property
    def use(self) -> str:
        """The only use of this request, decided by a hash of its content, independent of the phrasing."""
        content = " ".join([self.kind.name, *(self.values[slot] for slot in self.kind.slots)])
        position = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64
        for use, share in USES.items():
            position -= share
            if position < 0:
                return use
        return use


def draw_request(random_numbers: random.Random) -> Request:
    """Draw a kind and a value for each slot, all equally likely."""
    kind = random_numbers.choice(KINDS)
    return Request(kind, {slot: random_numbers.choice(VALUES[slot]) for slot in kind.slots})


def write_prompt(request: Request, random_numbers: random.Random) -> str:
    """Return the request in a random phrasing, as a prompt: ``Guest: … Concierge:``."""
    text = random_numbers.choice(request.kind.phrasings).format(**request.values)
    return " ".join(filter(None, [GUEST, random_numbers.choice(OPENINGS), text, CONCIERGE]))


def read_prompt(prompt: str) -> Request:
    """Return the request that a prompt states.

    Raises PlauditError if the text is not a request of this world.
    """
    mentioned = [word for word in words(prompt) if word in _SLOT_OF_VALUE]
    values = {_SLOT_OF_VALUE[word]: word for word in mentioned}
    kind = _KIND_OF_SLOTS.get(frozenset(values))
    if kind is None or len(mentioned) != len(values):
        raise PlauditError(f"{prompt!r} is not a request of the embedded world; score only responses to its prompts")
    return Request(kind, values)


def draw_prompts(use: str, count: int, random_numbers: random.Random) -> list[str]:
    """Return ``count`` different prompts that belong to ``use``.

    Raises PlauditError if the world has fewer.
    """
    prompts: dict[str, None] = {}
    for _ in range(1000 + int(10 * count / USES[use])):
        request = draw_request(random_numbers)
        if request.use == use:
            prompts[write_prompt(request, random_numbers)] = None
        if len(prompts) == count:
            return list(prompts)
    raise PlauditError(f"world: found only {len(prompts)} of {count} different prompts for {use}; request fewer")
