"""All row formats, and the recognition of a file's format."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from plaudit.data.formats import (
    dialoconan,
    hh_rlhf,
    instructions,
    open_assistant,
    openai,
    plain,
    rankings,
    real_toxicity_prompts,
    trl,
)
from plaudit.data.formats.base import Format, Kind, Record
from plaudit.errors import PlauditError
from plaudit.registry import Registry

FORMATS: Registry[Format] = Registry(
    "row format",
    {
        row_format.name: row_format
        for family in (
            plain,
            trl,
            hh_rlhf,
            rankings,
            openai,
            open_assistant,
            instructions,
            real_toxicity_prompts,
            dialoconan,
        )
        for row_format in family.FORMATS
    },
)


def choose_format(name: str, records: Sequence[Record], kind: Kind | None, source: str) -> Format:
    """Return the format called ``name``, or for "auto" the one that fits more than half of the records.

    ``kind`` is the required kind of row; None means the richest. Raises PlauditError if the name is unknown, if no
    format or several formats fit, or if the format does not support that kind.
    """
    row_format = _named(name, source) if name != "auto" else _recognise(records, kind, source)
    if kind is not None and kind not in row_format.kinds:
        able = ", ".join(other.name for other in _all_formats() if kind in other.kinds)
        raise PlauditError(
            f"{source}: format {row_format.name} gives {' or '.join(row_format.kind_names)} rows, but {kind.kind} rows "
            f"are needed; formats that give them: {able}"
        )
    return row_format


def _named(name: str, source: str) -> Format:
    if name not in FORMATS:
        nearest = max(FORMATS, key=lambda known: _similarity(known, name))
        raise PlauditError(
            f"{source}: unknown format {name}; did you mean {nearest}? Known: auto, {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _recognise(records: Sequence[Record], kind: Kind | None, source: str) -> Format:
    fitting = [known for known in _all_formats() if sum(known.fits(record) for record in records) * 2 > len(records)]
    fitting = [known for known in fitting if not known.fallback] or fitting
    fitting = [known for known in fitting if not any(set(known.columns) < set(other.columns) for other in fitting)]
    richest = max((known.kinds[0] for known in fitting), key=lambda own: own.richness, default=None)
    wanted = kind or (richest if richest and richest.richness else None)
    for preferred in (
        [known for known in fitting if known.kinds[0] == wanted],
        [known for known in fitting if wanted in known.kinds],
        fitting,
    ):
        if len(preferred) == 1:
            return preferred[0]
    columns = sorted({column for record in records for column in record})
    if fitting:
        names = ", ".join(known.name for known in fitting)
        raise PlauditError(
            f"{source}: columns {', '.join(columns)} fit several formats ({names}); choose one with format: NAME"
        )
    nearest = sorted(_all_formats(), key=lambda known: -_nearness(known, columns))[:3]
    described = "; ".join(f"{known.name} ({', '.join(known.columns)})" for known in nearest)
    raise PlauditError(
        f"{source}: no row format has the columns {', '.join(columns)}; closest: {described}; "
        "rename them with `columns`, or choose a format with `format`"
    )


def _all_formats() -> list[Format]:
    return [FORMATS[name] for name in FORMATS]


def _nearness(known: Format, columns: Sequence[str]) -> float:
    """Return the mean over a format's columns of the similarity to the most similar column of the file."""
    return sum(max((_similarity(column, other) for other in columns), default=0.0) for column in known.columns) / len(
        known.columns
    )


def _similarity(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()
