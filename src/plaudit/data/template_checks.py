"""Checks that a chat template writes what a dialogue holds: answers, turns, calls, results and functions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from plaudit.data.formats.values import shown
from plaudit.data.rows import Message, ToolCall
from plaudit.data.rows.messages import TOOLS, parsed_arguments

# Why rows are dropped, in the words of the log.
CHANGED = "rows dropped: the chat template leaves out or changes the response"
LOST_TURN = "rows dropped: the chat template leaves out a turn"
LOST_CALL = "rows dropped: the chat template leaves out the call of a function"
LOST_RESULT = "rows dropped: the chat template leaves out the result of a function"
LOST_FUNCTION = "rows dropped: the chat template leaves out a function in `tools`"
MOVED = "rows dropped: the chat template writes the last turn of the prompt differently once an answer follows"
UNFAITHFUL = (CHANGED, MOVED, LOST_TURN, LOST_CALL, LOST_RESULT, LOST_FUNCTION)


class UnfaithfulError(Exception):
    """A row that a chat template does not write as it is. ``reason`` is counted; the message is an example."""

    def __init__(self, reason: str, example: str) -> None:
        super().__init__(example)
        self.reason = reason


class Probe(NamedTuple):
    """A word that stands in a dialogue in place of something; if it is not written, ``example`` was left out."""

    word: str
    reason: str
    example: str


def holds(text: str, content: str) -> bool:
    """Return whether a text holds a turn's content, apart from white space."""
    content = content.strip()
    return content in text or "".join(content.split()) in "".join(text.split())


def check_response(final: Message, written: str) -> None:
    """Raise UnfaithfulError if what a template wrote for a response does not hold its content."""
    if not holds(written, final.content):
        raise UnfaithfulError(CHANGED, f"{shown(final.content)!r} becomes {shown(written)!r}")


def check_last_turn(last: Message, before: str, written: Sequence[str]) -> None:
    """Raise UnfaithfulError if the last turn of a prompt is not in it, but in what was written for the responses."""
    if last.content.strip() and not holds(before, last.content) and any(holds(each, last.content) for each in written):
        raise UnfaithfulError(MOVED, f"{shown(last.content)!r} of {last.role}")


def probed(dialogue: Sequence[Message], turns_in_doubt: Sequence[int]) -> tuple[tuple[Message, ...], list[Probe]]:
    """Return a dialogue with probes in place of all calls, results and functions, and of the content of some turns."""
    probes: list[Probe] = []

    def probe(reason: str, example: str) -> str:
        probes.append(Probe(f"plaudit_{len(probes)}_", reason, example))
        return probes[-1].word

    def call_of(call: ToolCall) -> ToolCall:
        name = probe(LOST_CALL, f"the call of {shown(call.name)!r}")
        arguments = parsed_arguments(call.arguments)
        if isinstance(arguments, dict) and arguments:
            word = probe(LOST_CALL, f"the arguments of {shown(call.name)!r}")
            arguments = json.dumps({**arguments, word: word})
        else:
            arguments = call.arguments
        return ToolCall(name, arguments, call.id)

    def turn_of(number: int, turn: Message) -> Message:
        if turn.role == TOOLS:
            schemas = [_with_name(schema, probe) for schema in json.loads(turn.content)]
            return replace(turn, content=json.dumps(schemas))
        calls = tuple(map(call_of, turn.tool_calls))
        content = turn.content
        if content.strip() and (turn.role == "tool" or number in turns_in_doubt):
            reason = LOST_RESULT if turn.role == "tool" else LOST_TURN
            content = probe(reason, f"{shown(content)!r} of {turn.role}")
        return replace(turn, content=content, tool_calls=calls)

    return tuple(turn_of(number, turn) for number, turn in enumerate(dialogue)), probes


def check_probes(probes: Sequence[Probe], written: str) -> None:
    """Raise UnfaithfulError if a template did not write all probes, in whatever case."""
    lowered = written.lower()
    for probe in probes:
        if probe.word not in lowered:
            raise UnfaithfulError(probe.reason, probe.example)


def unfaithful_refusal(
    source: str, counted: Mapping[str, int], example: str, rows: int, max_bad_fraction: float
) -> str | None:
    """Return why a stage would not train on rows of which a template writes too many otherwise; None if it would."""
    found = {reason: counted[reason] for reason in UNFAITHFUL if counted.get(reason)}
    if sum(found.values()) <= max_bad_fraction * rows:
        return None
    ignore = ", or leave out `tools` with `ignore_columns`" if LOST_FUNCTION in found else ""
    numbers = "; ".join(f"{number} of {rows} {reason}" for reason, number in found.items())
    return (
        f"{source}: {numbers}, such as {example}; this is more than max_bad_fraction={max_bad_fraction:g}: "
        f"set a chat_template that writes them, or conversation=human_assistant{ignore}"
    )


def _with_name(schema: Any, probe: Any) -> Any:
    """Return the schema of a function with a probe as its name."""
    if not isinstance(schema, Mapping):
        return schema
    if isinstance(schema.get("function"), Mapping):
        return {**schema, "function": _with_name(schema["function"], probe)}
    name = schema.get("name")
    return {**schema, "name": probe(LOST_FUNCTION, f"the function {shown(name)!r}")} if name else schema
