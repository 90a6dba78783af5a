"""Instructions with their output: self-instruct (Wang et al. 2022), Alpaca (Taori et al. 2023), Dolly.

An instruction is the user's turn of a dialogue; its input, if any, follows a blank line.
"""

from collections.abc import Iterator, Mapping

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, first_of
from plaudit.data.formats.prompts import AROUND, INPUT, prompt_in
from plaudit.data.formats.responses import only_prompt, response_row
from plaudit.data.formats.sides import learned_side
from plaudit.data.formats.values import structured
from plaudit.data.rows import Origin, PromptRow, ResponseRow, Row

_OUTPUTS = ("output", "response", "completion", "answer")


def _self_instruct(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    instances = structured(record["instances"])
    if not isinstance(instances, list) or not all(isinstance(instance, Mapping) for instance in instances):
        raise BadRowError("instances is not a list of objects")
    if not instances:
        raise BadRowError("empty instances")
    for instance in instances:
        task = {"instruction": record["instruction"], INPUT: instance.get(INPUT), "output": instance.get("output")}
        yield from _alpaca(task, origin, kind)


def _alpaca(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    column = first_of(record, _OUTPUTS) or "output"
    if only_prompt(kind, record.get(column)):
        yield PromptRow(prompt_in(record, "instruction"), origin)
        return
    prompt, response = learned_side(record, "instruction", column)
    yield response_row(prompt, response.strip() if isinstance(response, str) else response, origin)


def _dolly(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield from _alpaca({**record, INPUT: record["context"]}, origin, kind)


FORMATS = (
    Format("self_instruct", ("instruction", "instances"), (ResponseRow, PromptRow), _self_instruct),
    Format(
        "alpaca",
        ("instruction", _OUTPUTS),
        (ResponseRow, PromptRow),
        _alpaca,
        also_reads=(INPUT, *AROUND),
        answers=_OUTPUTS,
        dialogue=True,
    ),
    Format(
        "dolly",
        ("instruction", "context", "response"),
        (ResponseRow, PromptRow),
        _dolly,
        also_reads=AROUND,
        answers=("response",),
        dialogue=True,
    ),
)
