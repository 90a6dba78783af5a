"""DIALOCONAN: dialogues of hate speech (HS) and counter-narratives (CN), one turn per line (Bonaldi et al. 2022)."""

from collections.abc import Iterable, Iterator

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, integer, text_in
from plaudit.data.rows import Message, Origin, PromptRow, ResponseRow, Row

_ROLES = {"HS": "user", "CN": "assistant"}


def _gather_dialogues(records: Iterable[tuple[int, Record]]) -> list[tuple[int, Record]]:
    """Group the turns of each dialogue; a dialogue has the line number of its first turn."""
    dialogues: dict[str, tuple[int, Record]] = {}
    for line, record in records:
        _, dialogue = dialogues.setdefault(str(record.get("dialogue_id")), (line, {"turns": []}))
        dialogue["turns"].append(record)
    return list(dialogues.values())


def _dialoconan(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Every counter-narrative is a response to the turns before it."""
    turns = sorted(record["turns"], key=lambda turn: integer(turn.get("turn_id"), "turn_id"))
    messages = [_message(turn) for turn in turns]
    for index, message in enumerate(messages):
        if message.role == "assistant" and index == 0:
            yield Unused("counter-narrative without a preceding turn")
        elif message.role == "assistant":
            yield ResponseRow(tuple(messages[:index]), message.content, origin)
    if all(message.role != "assistant" for message in messages):
        yield Unused("dialogue without a counter-narrative")


def _message(turn: Record) -> Message:
    kind = turn.get("type")
    if not isinstance(kind, str) or kind not in _ROLES:
        raise BadRowError(f"type is not one of {', '.join(_ROLES)}")
    return Message(_ROLES[kind], text_in(turn, "text").strip())


FORMATS = (
    Format(
        "dialoconan",
        ("dialogue_id", "turn_id", "text", "type"),
        (ResponseRow, PromptRow),
        _dialoconan,
        also_reads=("TARGET", "source"),
        group=_gather_dialogues,
    ),
)
