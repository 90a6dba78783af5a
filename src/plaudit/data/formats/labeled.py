"""Responses with a label: TRL's "unpaired preference" datasets, and the KTO data of LLaMA-Factory and Axolotl."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, first_of, has_value
from plaudit.data.formats.dialogues import is_dialogue
from plaudit.data.formats.prompts import AROUND, PROMPTS, input_read
from plaudit.data.formats.sides import judged_dialogue, judged_side
from plaudit.data.formats.values import SPELLED_LABELS, label, number, shown
from plaudit.data.rows import LabeledRow, Origin, Prompt, PromptRow, ResponseRow, Row
from plaudit.errors import PlauditError

LABELS = ("label", "kto_tag")
DIALOGUES = ("messages", "conversations", "conversation", "dialogue", "dialog", "trajectory")
_COMPLETIONS = ("completion", "response", "output", "answer")

Read = Callable[[Record], tuple[Prompt, str]]


def _completion(record: Record) -> tuple[Prompt, str]:
    column = first_of(record, _COMPLETIONS) or "completion"
    return judged_side(record, PROMPTS, record.get(column), column)


def _dialogue(record: Record) -> tuple[Prompt, str]:
    column = first_of(record, DIALOGUES) or "messages"
    return judged_dialogue(record, record.get(column), column)


def _whole_completion(record: Record) -> tuple[Prompt, str]:
    return judged_dialogue(record, record.get("completion"), "completion")


def _convert(
    read: Read, refused: tuple[str, ...], record: Record, origin: Origin, kind: Kind
) -> Iterator[Row | Unused]:
    column = first_of(record, LABELS) or "label"
    if str(record.get(column)).strip() in refused:
        raise BadRowError(f"{column} is {record[column]}, but the first labels of the file are in another coding")
    desirable = label(record.get(column), column)
    prompt, response = read(record)
    if kind is not ResponseRow:
        yield LabeledRow(prompt, (response,), (desirable,), origin)
    elif desirable:
        yield ResponseRow(prompt, response, origin)
    else:
        yield Unused("undesirable response")


_STRAY = 0.05
_ZERO, _MINUS = ("0", "0.0"), ("-1", "-1.0")


def _settled(read: Read) -> Callable[[Format, Sequence[Record]], Format]:
    """Return how a format finds out whether undesirable is 0 or -1: a file that has both could mean neutral by 0."""

    def settle(known: Format, records: Sequence[Record]) -> Format:
        """Return the format with the labels of the file that begins with ``records``."""
        found = {str(record.get(column)).strip() for record in records for column in LABELS}
        _check_scale([record[column] for record in records for column in LABELS if has_value(record.get(column))])
        zero, minus = bool(found & set(_ZERO)), bool(found & set(_MINUS))
        if zero and minus:
            raise PlauditError(
                "label holds both 0 and -1, so 0 may be undesirable or neutral; write true or false, and leave out "
                "neutral rows"
            )
        refused = _ZERO if minus else _MINUS if zero else ()
        return replace(known, convert=lambda record, origin, kind: _convert(read, refused, record, origin, kind))

    return settle


def _check_scale(labels: Sequence[object]) -> None:
    """Raise PlauditError if labels are on a scale such as 1 to 5, on which 1 does not mean true."""
    others = [shown(label) for label in labels if _is_of_a_scale(label)]
    if len(others) > _STRAY * len(labels):
        raise PlauditError(
            f"label is {others[0]} in the first records, so it is on a scale; write true or false instead of numbers"
        )


def _is_of_a_scale(value: object) -> bool:
    try:
        return number(value, "label") not in (0, 1, -1)
    except BadRowError:
        return False


FORMATS = (
    Format(
        "unpaired_preference",
        (PROMPTS, _COMPLETIONS, LABELS),
        (LabeledRow, ResponseRow, PromptRow),
        lambda record, origin, kind: _convert(_completion, (), record, origin, kind),
        also_reads=AROUND,
        varying=input_read,
        settle=_settled(_completion),
        judgement=LABELS,
        dialogue=True,
        labels=SPELLED_LABELS,
    ),
    Format(
        "labeled_messages",
        (DIALOGUES, LABELS),
        (LabeledRow, ResponseRow, PromptRow),
        lambda record, origin, kind: _convert(_dialogue, (), record, origin, kind),
        also_reads=AROUND,
        settle=_settled(_dialogue),
        judgement=LABELS,
        dialogue=True,
        labels=SPELLED_LABELS,
    ),
    Format(
        "labeled_completion",
        ("completion", LABELS),
        (LabeledRow, ResponseRow, PromptRow),
        lambda record, origin, kind: _convert(_whole_completion, (), record, origin, kind),
        also_reads=AROUND,
        matches=lambda record: is_dialogue(record["completion"]) and first_of(record, PROMPTS) is None,
        settle=_settled(_whole_completion),
        judgement=LABELS,
        recognized_by="`completion` with a whole dialogue, `label` or `kto_tag`",
        dialogue=True,
        labels=SPELLED_LABELS,
    ),
)
