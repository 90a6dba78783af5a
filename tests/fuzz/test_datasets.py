"""Rows of every format in every kind of file, some of them changed: what is learned is what the file says.

Untouched rows must give exactly the rows that were written down by hand, whatever was changed around them. Every record
is used, counted as unused or bad, and no text of another record is learned with it.
"""

import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.accounting import check_refusal
from fuzzing.dataset_files import WRITERS, Unit, atoms_of, cell, row_texts, texts_of, units
from fuzzing.effort import cases
from plaudit.config.schema import SourceConfig
from plaudit.data.formats.registry import FORMATS
from plaudit.data.loading import refusal
from plaudit.data.rows import LabeledRow, RankingRow, ResponseRow, Row
from plaudit.data.sources import read_source
from plaudit.errors import PlauditError

# One text per record, or only on request: nothing here is recognized by its columns.
_NAMES = sorted(set(FORMATS) - {"text", "imdb"})
_UNITS = 20


def _plain(row: Row) -> dict[str, Any]:
    return {key: value for key, value in vars(row).items() if key not in ("origin", "fields") and value is not None}


def _good_texts(row: Row) -> set[str]:
    """Return the responses that may be learned as good ones."""
    if isinstance(row, RankingRow):
        return {text for text, rank in zip(row.responses, row.ranks, strict=True) if rank == 0}
    if isinstance(row, LabeledRow):
        return {text for text, desirable in zip(row.responses, row.desirable, strict=True) if desirable}
    return set(row.responses)


def _try(random: Random, folder: Path) -> Counter[str]:
    name, (file, write) = random.choice(_NAMES), random.choice(list(WRITERS.items()))
    made = units(random, name, random.randint(5, _UNITS))
    records = [record for unit in made for record in unit.records]
    path = folder / file
    path.write_bytes(write(records))
    row_format = FORMATS[name]
    kind = random.choice([row_format.kinds[0], *row_format.kinds])
    asked = random.choice(["auto", name])
    try:
        read = read_source(SourceConfig(path=str(path), format=asked), kind)
    except PlauditError as error:
        check_refusal(error, path)
        return Counter({"rows refused": len(records)})
    if read.counts.format != name and refusal(read, 1.0) is not None:
        return Counter({"rows refused": len(records)})
    assert read.counts.format == name, f"{name} was read as {read.counts.format}"
    assert read.counts.used + read.counts.without_row + len(read.rejects) == read.counts.records
    if row_format.group is None:
        assert read.counts.records == len(records)
        _check_lines(made, read, file == "rows.csv" or file == "rows.tsv")
    _check_rows(made, read.rows, kind is row_format.kinds[0])
    return Counter({"rows read": read.counts.used, "rows bad": len(read.rejects), "rows": len(records)})


def _check_lines(made: list[Unit], read: Any, table: bool) -> None:
    """Each line has rows, or is rejected, or gives nothing; an untouched one has rows."""
    used = {row.origin.line for row in read.rows}
    rejected = Counter(reject.origin.line for reject in read.rejects)
    assert not used & rejected.keys()
    assert max(rejected.values(), default=1) == 1
    line = 1 + table
    for unit in made:
        # In a table, a line end within a cell begins another line.
        cells = [cell(value) for record in unit.records for value in record.values()] if table else []
        lines = range(line, line + len(unit.records) + "".join(cells).count("\n"))
        assert unit.touched or read.kind is not ResponseRow or not used.isdisjoint(lines) or _nothing_to_learn(unit)
        line = lines.stop


def _nothing_to_learn(unit: Unit) -> bool:
    return not any(map(_good_texts, unit.rows))


def _check_rows(made: list[Unit], rows: list[Row], native: bool) -> None:
    by_mark: dict[str, list[Row]] = {}
    for row in rows:
        marks = set(re.findall(r"no\d+\.", " ".join(row_texts(row))))
        assert len(marks) <= 1, f"one row has the texts of several records: {row}"
        for mark in marks:
            by_mark.setdefault(mark, []).append(row)
    for number, unit in enumerate(made):
        found = by_mark.get(f"no{number}.", [])
        atoms = [text for record in unit.records for value in record.values() for text in atoms_of(value)]
        raw = "\n".join([*atoms, "".join(text for record in unit.records for text in texts_of(record))])
        for row in found:
            for text in row.responses:
                pieces = re.split(r"\s+", text.strip())
                assert all(piece in raw for piece in pieces), f"{text!r} is not in {unit.records}"
        if unit.touched:
            continue
        if native:
            assert [_plain(row) for row in found] == [_plain(row) for row in unit.rows], unit.records
        good = set().union(*map(_good_texts, unit.rows))
        learned = {text for row in found if isinstance(row, ResponseRow) for text in row.responses}
        assert not good or learned <= good, f"{learned - good} is learned from {unit.records}"


def test_rows_of_every_format_in_every_kind_of_file(tmp_path: Path) -> None:
    became: Counter[str] = Counter()
    for random in cases(default=250):
        try:
            became += _try(random, tmp_path)
        except Exception as error:
            error.add_note(f"PLAUDIT_FUZZ_ONLY={random.case}; see the file in {tmp_path}")
            raise
    print(dict(became))
    if became.total() > 1000:  # not when a single case is repeated
        assert became["rows refused"] < became["rows read"]
