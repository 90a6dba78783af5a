"""Anthropic's raw HH-RLHF: ``chosen`` and ``rejected`` hold whole dialogues as text (Bai et al. 2022).

A dialogue is a sequence of "\\n\\nHuman: …" and "\\n\\nAssistant: …"; the final assistant turn is the response.
"""

import re
from collections.abc import Iterator

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, ranking, split_dialogue, text_in
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_dialogue_text(value: object) -> bool:
    """Return whether a value is text with both a human and an assistant turn."""
    return isinstance(value, str) and set(_TURN.findall(value)) == set(_ROLES)


def parse_dialogue(text: str) -> tuple[Message, ...]:
    """Return the turns of a dialogue without surrounding white space; raises BadRowError."""
    before, *turns = _TURN.split(text)
    if before.strip():
        raise BadRowError("text before the first turn")
    if not turns:
        raise BadRowError("no Human or Assistant turn")
    return tuple(Message(_ROLES[role], content.strip()) for role, content in zip(turns[::2], turns[1::2], strict=True))


def _other_end(dialogue: tuple[Message, ...], text: str, other: str) -> str | None:
    """Return the last turn of another text if it differs from a dialogue's text in that alone, or else None.

    Most pairs are such; their turns need not be parsed twice. The last turn is the assistant's.
    """
    before, marker, _ = text.rpartition(_ANSWER)
    _, _, last = other.rpartition(_ANSWER)
    if not marker or dialogue[-1].role != "assistant" or "\n\nHuman:" in last or other != before + marker + last:
        return None
    return last.strip()


def _hh_rlhf(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    text = text_in(record, "chosen")
    dialogue = parse_dialogue(text)
    other_text = text_in(record, "rejected")
    rejected = _other_end(dialogue, text, other_text)
    other = parse_dialogue(other_text) if rejected is None else (*dialogue[:-1], Message("assistant", rejected))
    if dialogue == other:
        raise BadRowError("identical responses")
    prompt, chosen = split_dialogue(dialogue)
    if not rejected:
        other_prompt, rejected = split_dialogue(other)
        if prompt != other_prompt:
            raise BadRowError("mismatched prompts")
    yield ranking(prompt, (chosen, rejected), (0, 1), origin)


FORMATS = (
    Format(
        "hh_rlhf",
        ("chosen", "rejected"),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _hh_rlhf,
        judgement=("chosen", "rejected"),
        ties="none",
        dialogue=True,
        labels="the column's name",
        recognized_by="`chosen`, `rejected` with turns of Human and Assistant as text",
        matches=lambda record: all(is_dialogue_text(record[side]) for side in ("chosen", "rejected")),
    ),
)
