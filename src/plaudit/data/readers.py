"""Reads the records of files and hub datasets with their line numbers, and reports where and why one is malformed."""

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from plaudit.errors import PlauditError

Record = dict[str, Any]
Numbered = tuple[int, "Record | Malformed"]

_LONGEST_CSV_FIELD = 2**30


@dataclass(frozen=True)
class Malformed:
    """A line that is not a record: the reason, and the beginning of the line."""

    reason: str
    excerpt: str


def read_records(
    path: str, subset: str | None = None, split: str = "train", files: str | None = None
) -> Iterator[Numbered]:
    """Yield (line, record or ``Malformed``) for every record of a local file or hub dataset.

    Lines count from 1; for json, parquet and hub datasets the line is the number of the entry. ``subset``, ``split``
    and ``files`` are for hub datasets only. Raises PlauditError if the source is missing, empty, damaged or unknown.
    """
    local = _is_local(path)
    if local:
        if subset is not None or files is not None:
            key = "files" if subset is None else "subset"
            raise PlauditError(f"{path}: this is a local file, but {key} only applies to hub datasets; remove {key}")
        read = _records_of_file(Path(path))
    else:
        read = _records_of_hub(path, subset, split, files)
    empty = True
    for numbered in read:
        empty = False
        yield numbered
    if empty:
        raise PlauditError(f"{path}: the {'file' if local else 'dataset'} is empty; give one with at least one row")


def _is_local(path: str) -> bool:
    looks_like_hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) and not path.startswith(".")
    return Path(path).exists() or _extension(Path(path)) is not None or not looks_like_hub_name


def _extension(path: Path) -> str | None:
    return next((extension for extension in _READERS if path.name.lower().endswith(extension)), None)


def _records_of_file(path: Path) -> Iterator[Numbered]:
    if not path.exists():
        raise PlauditError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise PlauditError(f"{path}: this is a folder; name a file in it")
    extension = _extension(path)
    if extension is None:
        raise PlauditError(f"{path}: unknown kind of file; the name must end with one of {', '.join(_READERS)}")
    return _READERS[extension](path)


def _read_jsonl(path: Path) -> Iterator[Numbered]:
    with path.open("rb") as file:
        yield from _parse_lines(file)


def _read_jsonl_gz(path: Path) -> Iterator[Numbered]:
    try:
        with gzip.open(path, "rb") as file:
            yield from _parse_lines(file)
    except (gzip.BadGzipFile, EOFError) as error:
        raise PlauditError(f"{path}: damaged gzip file ({error}); download or write it again") from error


def _parse_lines(lines: Iterable[bytes] | IO[bytes]) -> Iterator[Numbered]:
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, _parse_line(line)


def _parse_line(line: bytes) -> Record | Malformed:
    excerpt = line.decode("utf-8", errors="replace").strip()
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Malformed("not valid UTF-8", excerpt)
    except (ValueError, RecursionError):
        return Malformed("malformed JSON", excerpt)
    if b"\\u" in line and _has_lone_surrogate(value):
        return Malformed("not valid Unicode", excerpt)
    return _object(value)


def _object(value: object) -> Record | Malformed:
    if isinstance(value, dict):
        return value
    return Malformed("not a JSON object", json.dumps(value))


def _has_lone_surrogate(value: object) -> bool:
    """Return whether text contains half a surrogate pair: JSON escapes allow it, but tokenizers reject it."""
    return re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)) is not None


def _read_json(path: Path) -> Iterator[Numbered]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig") or "[]")
    except UnicodeDecodeError as error:
        raise PlauditError(f"{path}: not valid UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise PlauditError(f"{path} line {error.lineno}: malformed JSON ({error.msg}); correct the file") from error
    entries = content.get("data") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise PlauditError(
            f'{path}: expected a list of objects, or an object with such a list under "data"; convert the file'
        )
    for number, entry in enumerate(entries, start=1):
        lone_surrogate = _has_lone_surrogate(entry)
        yield number, Malformed("not valid Unicode", json.dumps(entry)) if lone_surrogate else _object(entry)


def _read_csv(path: Path) -> Iterator[Numbered]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    # Bytes that are not UTF-8 are kept as surrogates, so that the error can name their row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        start = reader.line_num + 1
        for fields in reader:
            if fields:
                yield start, _csv_record(header, fields)
            start = reader.line_num + 1


def _csv_record(header: list[str], fields: list[str]) -> Record | Malformed:
    excerpt = ",".join(fields).encode("utf-8", errors="replace").decode("utf-8")
    if len(fields) != len(header):
        return Malformed("number of fields differs from the header's", excerpt)
    if any("\ud800" <= character <= "\udfff" for field in fields for character in field):
        return Malformed("not valid UTF-8", excerpt)
    return dict(zip(header, fields, strict=True))


def _read_parquet(path: Path) -> Iterator[Numbered]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise PlauditError(
            f"{path}: not a valid parquet file ({_first_line(error)}); download or write it again"
        ) from error
    number = 0
    for batch in file.iter_batches():
        for record in batch.to_pylist():
            number += 1
            yield number, record


def _records_of_hub(name: str, subset: str | None, split: str, files: str | None) -> Iterator[Numbered]:
    import datasets

    try:
        dataset = datasets.load_dataset(name, subset, data_files=files, split=split)
    except Exception as error:  # datasets raises many types of exceptions; the message must name the dataset
        raise PlauditError(
            f"{name}: there is no such file, and no hub dataset of this name could be loaded (subset {subset}, split "
            f"{split}, files "
            f"{files}): {_first_line(error)}; check the name, these settings and the network"
        ) from error
    yield from enumerate(dataset, start=1)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


_READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl_gz,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
