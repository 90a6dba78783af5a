"""Parsing a reply into the qualities that the gold score and the annotators use."""

import re
from dataclasses import dataclass

from plaudit.quickstart.lexicon import COURTESY, FILLERS, KINDS, RUDE, RUDE_WORDS, VALUES, Kind, words
from plaudit.quickstart.requests import Request

SHORTEST, LONGEST, UNBEARABLE = 8, 36, 56
"""In tokens: replies from SHORTEST to LONGEST have a suitable length; at UNBEARABLE the length score is 0."""


@dataclass(frozen=True)
class Qualities:
    """Properties of a reply.

    ``right``, ``wrong``: how many of the request's slots (``slots``) are named with the right and with a wrong value.
    ``courtesy``: kinds of courtesy. ``length``: tokens. ``rude``: a rude word occurs. ``faults``: violations of form.
    """

    slots: int
    right: int
    wrong: int
    courtesy: frozenset[str]
    length: int
    rude: bool
    faults: int

    @property
    def correctness(self) -> float:
        """(right - wrong / 2) / slots, at least 0."""
        return max(0.0, (self.right - self.wrong / 2) / self.slots)

    @property
    def politeness(self) -> float:
        """Fraction of the kinds of courtesy (greeting, thanks, closing) in the reply."""
        return len(self.courtesy) / len(COURTESY)

    @property
    def fit_of_length(self) -> float:
        """1 from SHORTEST to LONGEST tokens; falls linearly to 0 at no tokens and at UNBEARABLE."""
        below = self.length / SHORTEST
        above = (UNBEARABLE - self.length) / (UNBEARABLE - LONGEST)
        return max(0.0, min(1.0, below, above))


def _confirmation_pattern(kind: Kind) -> re.Pattern[str]:
    heads = "|".join(map(re.escape, kind.heads))
    fragments = [
        rf"(?: {fragment.format(**{slot: f'(?P<{slot}>' + '|'.join(VALUES[slot]) + ')'})})?"
        for slot, fragment in kind.fragments.items()
    ]
    return re.compile(rf"(?:{heads}){''.join(fragments)}\.")


_CONFIRMATIONS = {kind.name: _confirmation_pattern(kind) for kind in KINDS}
_ROLES = {sentence: mark for mark, sentences in COURTESY.items() for sentence in sentences}
_ROLES |= {sentence: sentence for sentence in (*FILLERS, *RUDE)}


def _role(sentence: str) -> str | None:
    """Return a sentence's role; a reply has at most one sentence per role. None: not a sentence of the world."""
    if sentence in _ROLES:
        return _ROLES[sentence]
    return "confirmation" if any(pattern.fullmatch(sentence) for pattern in _CONFIRMATIONS.values()) else None


def _count_faults(sentences: list[str]) -> int:
    """Count sentences that are unknown or unfinished, that repeat a role, or that are in the wrong place."""
    roles = [_role(sentence) for sentence in sentences]
    unknown = roles.count(None)
    known = [role for role in roles if role]
    repeated = len(known) - len(set(known))
    misplaced = ("greeting" in known and roles[0] != "greeting") + ("closing" in known and roles[-1] != "closing")
    return unknown + repeated + misplaced


def read_reply(request: Request, reply: str) -> Qualities:
    """Return the qualities of a reply to ``request``; any text can be read.

    A slot is right if a confirmation names its value and none names another; it is wrong if one names another value.
    """
    sentences = [sentence.strip() for sentence in re.findall(r"[^.!?]*[.!?]|[^.!?]+$", reply) if sentence.strip()]
    matches = [match for sentence in sentences if (match := _CONFIRMATIONS[request.kind.name].fullmatch(sentence))]
    named = {slot: {match[slot] for match in matches if match[slot]} for slot in request.values}
    right = sum(named[slot] == {value} for slot, value in request.values.items())
    tokens = words(reply)
    return Qualities(
        slots=len(named),
        right=right,
        wrong=sum(bool(values) for values in named.values()) - right,
        courtesy=frozenset(_ROLES[sentence] for sentence in sentences if sentence in _ROLES) & COURTESY.keys(),
        length=len(tokens),
        rude=not RUDE_WORDS.isdisjoint(tokens),
        faults=_count_faults(sentences),
    )
