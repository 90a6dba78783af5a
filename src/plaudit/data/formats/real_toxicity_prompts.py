"""RealToxicityPrompts: openings of sentences, continuations and Perspective scores (Gehman et al. 2020)."""

from collections.abc import Iterator, Mapping

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, text_in
from plaudit.data.formats.values import structured
from plaudit.data.rows import Origin, PromptRow, ResponseRow, Row

_PARTS = ("prompt", "continuation")


def _real_toxicity_prompts(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    prompt, continuation = (_part(record, part) for part in _PARTS)
    text = text_in(prompt, "text", "prompt")
    if kind is ResponseRow:
        yield ResponseRow(text, text_in(continuation, "text", "response"), origin)
    else:
        yield PromptRow(text, origin, {column: value for column, value in prompt.items() if column != "text"})


def _part(record: Record, column: str) -> Record:
    part = structured(record.get(column))
    if not isinstance(part, Mapping):
        raise BadRowError(f"{column} is not an object with text and scores")
    return part


def _has_text(part: object) -> bool:
    return isinstance(part, Mapping) and "text" in part


FORMATS = (
    Format(
        "real_toxicity_prompts",
        _PARTS,
        (PromptRow, ResponseRow),
        _real_toxicity_prompts,
        recognized_by="`prompt` and `continuation` with `text`",
        matches=lambda record: all(map(_has_text, (structured(record[part]) for part in _PARTS))),
    ),
)
