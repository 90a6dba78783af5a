"""Damaged files of every kind: each row is read once, rejected at its line, or the file is refused in one line."""

from collections import Counter
from pathlib import Path
from random import Random

from fuzzing.accounting import Outcome, check_accounted, check_complete, check_refusal, check_without_rows
from fuzzing.damage import damage_bytes, damage_content
from fuzzing.effort import cases
from fuzzing.writers import Written, compressed, written
from numbered_records import numbered_records
from plaudit.data.readers import Malformed
from plaudit.errors import PlauditError

# One in so many files stays undamaged, and one in so many is damaged after compression.
_WHOLE, _OUTSIDE = 0.1, 0.25


def _read(path: Path) -> list[Outcome]:
    return [(line, None if isinstance(record, Malformed) else record) for line, record in numbered_records(str(path))]


def _try(random: Random, folder: Path) -> str:
    """Write a file, perhaps damage it, read it, and check the result; return what became of it."""
    file = written(random)
    chance = random.random()
    if chance < _WHOLE:
        return _undamaged(file, folder)
    if chance < _WHOLE + _OUTSIDE and (file.compression or file.ending == ".parquet"):
        return _damaged_outside(file, folder, random)
    return _damaged_inside(file, folder, random)


def _undamaged(file: Written, folder: Path) -> str:
    check_complete(file, _read(_save(file, compressed(file), folder)))
    return "undamaged"


def _damaged_outside(file: Written, folder: Path, random: Random) -> str:
    """Checksums notice damage to compressed data: all of it is read or nothing."""
    before = compressed(file)
    path = _save(file, damage_bytes(before, random), folder)
    try:
        outcomes = _read(path)
    except PlauditError as error:
        check_refusal(error, path)
        return "refused"
    after = path.read_bytes()
    # Parquet has no checksum of its page headers, and a file with another beginning is not compressed any more.
    if after == before or (file.ending != ".parquet" and after[:2] == before[:2]):
        assert [record for _, record in outcomes] == file.records
    return "read"


def _damaged_inside(file: Written, folder: Path, random: Random) -> str:
    damage_content(file, random)
    path = _save(file, compressed(file), folder)
    try:
        outcomes = _read(path)
    except PlauditError as error:
        check_refusal(error, path)
        if file.recovers and file.encoding == "utf-8":
            check_without_rows(file, error)
        return "refused"
    if file.ending != ".parquet":
        check_accounted(file, outcomes)
    return "rejected" if any(record is None for _, record in outcomes) else "read"


def _save(file: Written, content: bytes, folder: Path) -> Path:
    path = folder / f"rows{file.ending}{file.compression}"
    path.write_bytes(content)
    return path


def test_damaged_files(tmp_path: Path) -> None:
    became: Counter[str] = Counter()
    for random in cases(default=600):
        try:
            became[_try(random, tmp_path)] += 1
        except Exception as error:
            error.add_note(f"PLAUDIT_FUZZ_ONLY={random.case}; see the file in {tmp_path}")
            raise
    assert became.total() > 0
    if became.total() >= 100:  # not when a single case is repeated
        assert became.keys() >= {"refused", "rejected", "read"}
