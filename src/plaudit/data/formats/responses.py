"""A prompt with one response: text, or messages as in TRL's "prompt-completion" datasets."""

from collections.abc import Iterator, Mapping
from typing import Any

from plaudit.data.formats.base import BadRowError, Column, Format, Kind, Record, first_of
from plaudit.data.formats.prompts import AROUND, prompt_in
from plaudit.data.formats.sides import learned_side
from plaudit.data.rows import Message, Origin, Prompt, PromptRow, ResponseRow, Row

RESPONSES = ("response", "answer", "output", "generation")
_QUESTIONS = ("question", "query", "input")


def response_row(prompt: Prompt, response: Message | str, origin: Origin) -> ResponseRow:
    """Return a row of a response that is text or a turn; raises BadRowError if an earlier turn to learn is empty."""
    if not isinstance(prompt, str) and any(turn.learned and not turn.text.strip() for turn in prompt):
        raise BadRowError("empty turn of the assistant")
    if isinstance(response, str):
        return ResponseRow(prompt, response, origin)
    return ResponseRow(prompt, response.text, origin, response if response.tool_calls else None)


def only_prompt(kind: Kind, response: Any) -> bool:
    """Whether only the prompt of a record is read: the response, such as a number, is a field for reward functions."""
    return kind is PromptRow and not isinstance(response, str | list | tuple | Mapping)


def _prompt_response(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield from _rows(record, "prompt", RESPONSES, origin, kind)


def _prompt_completion(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield from _rows(record, "prompt", "completion", origin, kind)


def _question_answer(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield from _rows(record, _QUESTIONS, RESPONSES, origin, kind)


def _rows(record: Record, prompts: Column, responses: Column, origin: Origin, kind: Kind) -> Iterator[Row]:
    column = first_of(record, responses) or "response"
    if only_prompt(kind, record.get(column)):
        yield PromptRow(prompt_in(record, prompts), origin)
        return
    prompt, response = learned_side(record, prompts, column)
    yield response_row(prompt, response, origin)


FORMATS = (
    Format(
        "prompt_response",
        ("prompt", RESPONSES),
        (ResponseRow, PromptRow),
        _prompt_response,
        also_reads=AROUND,
        answers=RESPONSES,
        dialogue=True,
    ),
    Format(
        "prompt_completion",
        ("prompt", "completion"),
        (ResponseRow, PromptRow),
        _prompt_completion,
        also_reads=AROUND,
        answers=("completion",),
        dialogue=True,
    ),
    Format(
        "question_answer",
        (_QUESTIONS, RESPONSES),
        (ResponseRow, PromptRow),
        _question_answer,
        also_reads=AROUND,
        answers=RESPONSES,
        dialogue=True,
    ),
)
