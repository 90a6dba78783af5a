"""Parquet files: damage, repeated names, numbers that are not finite, and the number of rows."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed
from plaudit.errors import PlauditError

ROWS = [{"prompt": f"p{number}", "score": number / 2, "ids": [number]} for number in range(5000)]


def _read(path: Path) -> list[Any]:
    return [rec.reason if isinstance(rec, Malformed) else rec for _, rec in numbered_records(str(path))]


def test_rows_of_several_batches_and_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700)
    assert _read(path) == ROWS
    packed = tmp_path / "rows.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert _read(packed) == ROWS


def test_a_file_cut_off_or_changed_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS[:300]), path, write_page_checksum=True)
    whole = path.read_bytes()
    for place in range(1, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place])
        with pytest.raises(PlauditError, match=r"rows.parquet: not a valid parquet file \(.*\); download") as caught:
            _read(path)
        assert "\n" not in str(caught.value)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            read = _read(path)
        except PlauditError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
        else:
            assert len(read) == 300


def test_repeated_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(PlauditError, match="two columns named a"):
        _read(path)
    struct = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], fields=[pa.field("b", pa.int64())] * 2)
    pq.write_table(pa.table({"a": struct}), path)
    with pytest.raises(PlauditError, match="two columns named b"):
        _read(path)


def test_numbers_that_are_not_finite_are_named_and_nulls_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [
        {"a": 1.0, "b": [1.0], "c": {"d": 2.0}},
        {"a": float("nan"), "b": [1.0], "c": {"d": 2.0}},
        {"a": None, "b": None, "c": None},
        {"a": 1.0, "b": [1.0, float("inf")], "c": {"d": 2.0}},
        {"a": 1.0, "b": [1.0], "c": {"d": float("-inf")}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    read = _read(path)
    assert (read[0], read[2]) == (rows[0], rows[2])
    assert [read[index] for index in (1, 3, 4)] == [f"NaN or an infinite number in {name}" for name in "abc"]


def test_rows_with_values_that_python_cannot_hold_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = pa.Array.from_buffers(pa.string(), 2, [None, *pa.array([b"good", b"b\xffd"]).buffers()[1:]])
    pq.write_table(pa.table({"a": texts}), path)
    assert _read(path) == [{"a": "good"}, "a value that cannot be read"]
