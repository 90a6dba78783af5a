"""Instructions with their output: self-instruct (Wang et al. 2022) and Alpaca (Taori et al. 2023).

An instruction is the user's turn of a dialogue; its input, if any, follows a blank line.
"""

from collections.abc import Iterator, Mapping

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, text_in
from plaudit.data.rows import Message, Origin, PromptRow, ResponseRow, Row


def _self_instruct(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    instances = record["instances"]
    if not isinstance(instances, list) or not all(isinstance(instance, Mapping) for instance in instances):
        raise BadRowError("instances is not a list of objects")
    if not instances:
        raise BadRowError("empty instances")
    for instance in instances:
        yield _row(record, instance, origin)


def _alpaca(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield _row(record, record, origin)


def _row(task: Record, instance: Record, origin: Origin) -> Row:
    instruction = text_in(task, "instruction", "prompt").strip()
    given = instance.get("input") or ""
    if not isinstance(given, str):
        raise BadRowError("input is not a string")
    content = f"{instruction}\n\n{given.strip()}" if given.strip() else instruction
    return ResponseRow((Message("user", content),), text_in(instance, "output", "response").strip(), origin)


FORMATS = (
    Format("self_instruct", ("instruction", "instances"), (ResponseRow, PromptRow), _self_instruct),
    Format("alpaca", ("instruction", "output"), (ResponseRow, PromptRow), _alpaca, also_reads=("input",)),
)
