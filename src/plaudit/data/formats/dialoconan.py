"""DIALOCONAN: dialogues of hate speech (HS) and counter-narratives (CN), one turn per line (Bonaldi et al. 2022)."""

from collections.abc import Iterable, Iterator

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, text_in
from plaudit.data.formats.values import whole_number
from plaudit.data.rows import Message, Origin, PromptRow, ResponseRow, Row

_ROLES = {"HS": "user", "CN": "assistant"}


def _gather_dialogues(records: Iterable[tuple[Origin, Record]]) -> list[tuple[Origin, Record]]:
    """Group the turns of each dialogue; a dialogue has the line number of its first turn."""
    dialogues: dict[object, tuple[Origin, Record]] = {}
    for line, record in records:
        name = record.get("dialogue_id")
        # A turn without an id belongs to no other turn: it is a separate, bad dialogue.
        key = (line,) if name in (None, "") else str(name)
        _, dialogue = dialogues.setdefault(key, (line, {"turns": []}))
        dialogue["turns"].append(record)
    return list(dialogues.values())


def _dialoconan(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Every counter-narrative is a response to the turns before it."""
    messages = [_message(turn) for turn in _in_order(record["turns"])]
    for index, message in enumerate(messages):
        if message.role == "assistant" and index == 0:
            yield Unused("counter-narrative without a preceding turn")
        elif message.role == "assistant":
            yield ResponseRow(tuple(messages[:index]), message.content, origin)
    if all(message.role != "assistant" for message in messages):
        yield Unused("dialogue without a counter-narrative")
    elif messages[-1].role != "assistant":
        yield Unused("turns after the last counter-narrative")


def _in_order(turns: list[Record]) -> list[Record]:
    """Return the turns by number. Raises BadRowError unless each of 0, 1, … (or 1, 2, …) is there exactly once."""
    if turns[0].get("dialogue_id") in (None, ""):
        raise BadRowError("dialogue_id is missing")
    numbered = [(whole_number(turn.get("turn_id"), "turn_id"), turn) for turn in turns]
    numbered.sort(key=lambda pair: pair[0])
    numbers = [number for number, _ in numbered]
    if len(set(numbers)) < len(numbers):
        raise BadRowError("a turn_id is repeated in the dialogue, or two dialogues have one dialogue_id")
    if numbers[0] not in (0, 1) or numbers[-1] - numbers[0] != len(numbers) - 1:
        raise BadRowError("a turn of the dialogue is missing")
    if len({str(turn.get("TARGET")) for turn in turns}) > 1:
        raise BadRowError("the turns of the dialogue have different values of TARGET")
    return [turn for _, turn in numbered]


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
        also_reads=("TARGET",),
        ignores=("source",),
        group=_gather_dialogues,
        dialogue=True,
    ),
)
