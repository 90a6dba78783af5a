import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import PlauditError
from plaudit.files import json_text, write_atomically
from plaudit.runs.jsonl import JsonLinesWriter, read_json_lines, rewind


def test_lines_are_on_disk_before_the_log_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "sft" / "metrics.jsonl"
    with JsonLinesWriter(path) as log:
        log.append({"step": 1, "seconds": 0.5, "loss": torch.tensor(0.25)})
        assert path.read_text() == '{"step": 1, "seconds": 0.5, "loss": 0.25}\n'
        log.append({"step": 2, "loss": math.nan, "scores": {"gold": math.inf}, "text": "é"})
    assert path.read_text().splitlines()[1] == '{"step": 2, "loss": null, "scores": {"gold": null}, "text": "é"}'
    assert [record["step"] for record in read_json_lines(path)] == [1, 2]


def test_a_log_continues_after_a_line_that_a_kill_truncated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1}]
    with JsonLinesWriter(path) as log:
        log.append({"step": 2})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_broken_line_alone_gives_no_records(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    path.write_text('{"st')
    assert read_json_lines(path) == []
    JsonLinesWriter(path).close()
    assert path.read_text() == ""


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[2]\n{"step": 3}\n')
    with pytest.raises(PlauditError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        read_json_lines(path)


def test_rewind_drops_later_lines_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLinesWriter(path) as log:
        for step in range(5):
            log.append({"step": step, "loss": step / 3, "text": "é\u2028"})
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text(path.read_text() + '{"step": 5')
    rewind(path, 2)
    assert path.read_text(encoding="utf-8").split("\n") == [*lines[:3], ""]
    rewind(path, None)
    assert path.read_text() == ""
    rewind(tmp_path / "absent", 3)
    assert not (tmp_path / "absent").exists()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_finite_numbers_keep_every_bit(number: float) -> None:
    assert json.loads(json_text({"x": number}))["x"].hex() == number.hex()


def test_a_file_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
