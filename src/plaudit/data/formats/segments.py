"""Axolotl's template-free samples: a text in segments, each with a flag that says whether it is learned."""

from collections.abc import Iterator, Mapping
from typing import Any

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused
from plaudit.data.formats.values import label, structured
from plaudit.data.rows import Origin, PromptRow, ResponseRow, Row


def _segments(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """What comes before the first segment to learn is the prompt; of the rest, only segments to learn are learned."""
    parts = _parts(record["segments"])
    learned = [number for number, (_, is_learned) in enumerate(parts) if is_learned]
    if not learned:
        yield Unused("segments without one to learn")
        return
    first, last = learned[0], learned[-1]
    prompt = "".join(text for text, _ in parts[:first])
    if not prompt.strip():
        raise BadRowError("no text before the first segment to learn")
    rest = parts[first : last + 1]
    response = "".join(text for text, _ in rest)
    if not response.strip():
        raise BadRowError("empty response")
    if "".join(text for text, _ in parts[last + 1 :]).strip():
        yield Unused("text after the last segment to learn")
    if kind is PromptRow:
        yield PromptRow(prompt, origin)
    else:
        yield ResponseRow(prompt, response, origin, parts=tuple(rest) if len(rest) > len(learned) else None)


def _parts(value: Any) -> list[tuple[str, bool]]:
    segments = structured(value)
    if not _are_segments(segments):
        raise BadRowError("segments is not a list of objects with text and label")
    return [(each["text"], label(each["label"], "label")) for each in segments if each["text"]]


def _are_segments(segments: Any) -> bool:
    return (
        isinstance(segments, list)
        and bool(segments)
        and all(
            isinstance(each, Mapping) and isinstance(each.get("text"), str) and each.get("label") is not None
            for each in segments
        )
    )


FORMATS = (
    Format(
        "segments",
        ("segments",),
        (ResponseRow, PromptRow),
        _segments,
        recognized_by="`segments`: a list of objects with `text` and `label`",
        labels="of segments: true is learned",
    ),
)
