"""The table of all formats in the documentation, from what the formats declare."""

from plaudit.data.formats.base import Column, Format
from plaudit.data.formats.prompts import AROUND
from plaudit.data.formats.recognition import all_formats

_HEADER = ("format", "recognized by", "also read", "knowingly ignored", "row kinds", "ties", "turns", "labels")


def format_table() -> list[str]:
    """Return the lines of a Markdown table with a row per format."""
    rows = [_HEADER, ("---",) * len(_HEADER), *map(_cells, all_formats())]
    return [f"| {' | '.join(row)} |" for row in rows]


def _cells(known: Format) -> tuple[str, ...]:
    recognized = known.recognized_by or ", ".join(map(_spelled, known.columns))
    asked = "; only with `format: " + known.name + "`" if known.on_request else ""
    also = [_spelled(column) for column in known.also_reads if column not in AROUND]
    also += ["earlier turns"] if set(AROUND) <= set(known.also_reads) else []
    return (
        f"`{known.name}`",
        recognized + asked,
        ", ".join(also) or "none",
        ", ".join(f"`{name}`" for name in known.ignores) or "none",
        ", ".join(known.kind_names),
        known.ties or "none",
        "several" if known.dialogue else "one",
        known.labels or "none",
    )


def _spelled(column: Column) -> str:
    return f"`{column}`" if isinstance(column, str) else " or ".join(f"`{name}`" for name in column)
