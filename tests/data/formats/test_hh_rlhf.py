"""Pairs of dialogues are read as if each was parsed by itself."""

import random

from plaudit.data.formats.base import BadRowError
from plaudit.data.formats.hh_rlhf import FORMATS
from plaudit.data.rows import Message, Origin, RankingRow

PARTS = [
    "\n\nHuman:",
    "\n\nAssistant:",
    "\n\nHuman: a",
    "\n\nAssistant: b",
    "\n",
    " ",
    "\n\nAssistant",
    "Human:",
    "x",
    "c",
]
AT = Origin("f", 1)


def turns(text: str) -> list[Message]:
    """Return the turns of a text, found marker by marker."""
    found: list[Message] = []
    places = sorted(
        (text.index(marker, start), role, marker)
        for role, marker in (("user", "\n\nHuman:"), ("assistant", "\n\nAssistant:"))
        for start in range(len(text))
        if text.startswith(marker, start)
    )
    assert places
    assert not text[: places[0][0]].strip()
    for (place, role, marker), following in zip(places, [*places[1:], (len(text), "", "")], strict=True):
        found.append(Message(role, text[place + len(marker) : following[0]].strip()))
    return found


def expected(chosen: str, rejected: str) -> RankingRow | None:
    """Return the row, or None if the record is bad."""
    try:
        (*prompt, good), (*other, bad) = turns(chosen), turns(rejected)
    except AssertionError:
        return None
    if prompt != other or {good.role, bad.role} != {"assistant"} or good == bad or not good.content or not bad.content:
        return None
    if not any(turn.content for turn in prompt):
        return None
    return RankingRow(tuple(prompt), (good.content, bad.content), (0, 1), AT)


def test_a_common_beginning_changes_nothing() -> None:
    draw, rows, bad = random.Random(1), 0, 0
    for _ in range(20_000):
        beginning = "\n\nHuman: q" + "".join(draw.choices(PARTS, k=draw.randint(0, 4)))
        ends = ["".join(draw.choices(PARTS, k=draw.randint(1, 3))) for _ in range(2)]
        texts = [draw.choice(["", "", "", " "]) + beginning + end for end in ends]
        record = {"chosen": texts[0], "rejected": texts[1]}
        try:
            [row] = FORMATS[0].convert(record, AT, RankingRow)
            rows += 1
        except BadRowError:
            row = None
            bad += 1
        assert row == expected(*texts), texts
    assert min(rows, bad) > 500
