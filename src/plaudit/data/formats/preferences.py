"""A chosen and a rejected response: TRL's "preference" datasets with or without a prompt of their own.

The same columns are in the data of UltraFeedback's binarized versions, Intel's and Argilla's pairs, RewardBench (1 and
2), Axolotl's and LLaMA-Factory's samples.
"""

from collections.abc import Iterator
from typing import Any

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, first_of, has_value, ranking, text_in
from plaudit.data.formats.dialogues import with_messages
from plaudit.data.formats.hh_rlhf import is_dialogue_text
from plaudit.data.formats.prompts import AROUND, PROMPTS, input_read
from plaudit.data.formats.sides import as_turns, check_copy, judged_dialogue, judged_side
from plaudit.data.formats.values import number
from plaudit.data.rows import LabeledRow, Message, Origin, Prompt, PromptRow, RankingRow, ResponseRow, Row

_CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred", "response_j", "response")
_REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred", "response_k")
_SIDES = ("chosen", "rejected")
_KINDS = (RankingRow, LabeledRow, ResponseRow, PromptRow)
_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
_SCORE_COLUMNS = tuple(column for pair in _SCORES for column in pair)
# The working columns of distilabel, which stay in the data that it makes, and RewardBench 2's numbers of responses.
_WORKING = (
    "generations", "generation_prompt", "raw_generation_responses", "new_generations", "original_response",
    "original_chosen", "original_rejected", "order", "rating", "rationale", "labelling_model", "labelling_prompt",
    "raw_labelling_response", "status", "num_correct", "num_incorrect", "num_rejected", "total_completions",
)  # fmt: skip


def _preference(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    """Both sides may also be lists of equally good responses, as in RewardBench 2."""
    sides = [_responses(record, columns) for columns in (_CHOSEN, _REJECTED)]
    prompts = [prompt for side in sides for prompt, _ in side]
    if any(prompt != prompts[0] for prompt in prompts):
        raise BadRowError("mismatched prompts")
    _check_scores(record)
    responses = [response for side in sides for _, response in side]
    _check_beginnings(prompts[0], responses)
    check_copy(record, "messages", (*as_turns(prompts[0]), Message("assistant", responses[0])))
    yield ranking(prompts[0], responses, [0] * len(sides[0]) + [1] * len(sides[1]), origin)


def _check_beginnings(prompt: Prompt, responses: list[str]) -> None:
    """Raise BadRowError if all responses repeat a prompt of several words."""
    text = prompt.strip() if isinstance(prompt, str) else prompt[-1].content.strip()
    if all(response.lstrip().startswith(text) for response in responses) and len(text.split()) > 2:
        raise BadRowError("both responses repeat the prompt; ignore the column prompt, or remove it from them")


def _reads(record: Record) -> tuple[str, ...]:
    """Return the columns that depend on the record: an instruction's input, and a copy of the chosen response."""
    copied = "chosen" in record and record.get("response") == record["chosen"]
    return (*input_read(record), *(("response",) if copied else ()))


def _responses(record: Record, columns: tuple[str, ...]) -> list[tuple[Prompt, str]]:
    column = first_of(record, columns) or columns[0]
    value = with_messages(record.get(column))
    several = isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(text, str) for text in value)
    values: list[Any] = list(value) if several else [value]
    return [judged_side(record, PROMPTS, each, column) for each in values]


def _implicit_preference(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    values = [with_messages(record.get(side)) for side in _SIDES]
    if all(isinstance(value, str) for value in values):
        (prompt, chosen), (other, rejected) = _split_common_prefix(record)
    else:
        (prompt, chosen), (other, rejected) = (
            judged_dialogue(record, value, side) for value, side in zip(values, _SIDES, strict=True)
        )
    if prompt != other:
        raise BadRowError("mismatched prompts")
    _check_scores(record)
    check_copy(record, "messages", (*as_turns(prompt), Message("assistant", chosen)))
    yield ranking(prompt, (chosen, rejected), (0, 1), origin)


def _check_scores(record: Record) -> None:
    """Raise BadRowError if the rejected response has the higher score."""
    for better, worse in _SCORES:
        has_both = better in record and has_value(record[better]) and has_value(record.get(worse))
        if has_both and number(record[better], better) < number(record[worse], worse):
            raise BadRowError(f"{worse} is higher than {better}; to trust the sides, ignore both columns")


def _split_common_prefix(record: Record) -> list[tuple[Prompt, str]]:
    """Split two texts after their common prefix. Words are never split, and white space goes to the response."""
    chosen, rejected = (text_in(record, side) for side in _SIDES)
    if chosen == rejected:
        raise BadRowError("identical responses")
    shorter = min(len(chosen), len(rejected))
    end = next((index for index in range(shorter) if chosen[index] != rejected[index]), shorter)
    while end and any(text[end - 1].isalnum() and text[end : end + 1].isalnum() for text in (chosen, rejected)):
        end -= 1
    prompt = chosen[:end].rstrip()
    if not prompt:
        raise BadRowError("mismatched prompts")
    return [(prompt, text[len(prompt) :]) for text in (chosen, rejected)]


def _is_not_dialogue_text(record: Record) -> bool:
    return not all(is_dialogue_text(record[side]) for side in _SIDES)


FORMATS = (
    Format(
        "preference",
        (PROMPTS, _CHOSEN, _REJECTED),
        _KINDS,
        _preference,
        also_reads=("messages", *AROUND, *_SCORE_COLUMNS),
        varying=_reads,
        ignores=_WORKING,
        judgement=(*_CHOSEN, *_REJECTED),
        ties="none between the sides; a side may be a list of equally good responses",
        dialogue=True,
        labels="the column's name; scores of the sides must agree",
    ),
    Format(
        "implicit_preference",
        _SIDES,
        _KINDS,
        _implicit_preference,
        also_reads=("messages", *AROUND, *_SCORE_COLUMNS),
        ignores=_WORKING,
        matches=_is_not_dialogue_text,
        judgement=_SIDES,
        ties="none",
        derives_prompt=True,
        dialogue=True,
        labels="the column's name; scores of the sides must agree",
    ),
)
