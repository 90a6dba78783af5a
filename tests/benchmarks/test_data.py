"""The inputs of the benchmark of data, and the measurement of processes."""

import json
import sys
from pathlib import Path

import pytest
from comparison.dialogues import write_dialogues
from datasize.inputs import texts_of, write_pairs
from datasize.watching import watched

MEGABYTE = 2**20


def test_every_pair_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    write_dialogues(tmp_path / "base.jsonl.gz", count=3)
    path = write_pairs(tmp_path / "base.jsonl.gz", 8, tmp_path / "pairs.jsonl")
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    texts = list(texts_of(path))
    assert (len(pairs), len(texts), len(set(texts[::3]))) == (8, 24, 8)
    assert [pair["chosen"] for pair in pairs] == [
        prompt + chosen for prompt, chosen in zip(texts[::3], texts[1::3], strict=True)
    ]
    assert [pair["rejected"] for pair in pairs] == [
        prompt + other for prompt, other in zip(texts[::3], texts[2::3], strict=True)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_child_processes_counts() -> None:
    block = "block = b'x' * (60 << 20); "
    child = f"import time; {block}time.sleep(1)"
    parent = f"import subprocess, sys; {block}subprocess.run([sys.executable, '-c', {child!r}])"
    alone, both = (watched([sys.executable, "-c", code]) for code in (child, parent))
    assert 60 * MEGABYTE <= alone.anonymous_bytes < 90 * MEGABYTE
    assert 120 * MEGABYTE <= both.anonymous_bytes < 170 * MEGABYTE
    assert alone.anonymous_bytes <= alone.peak_bytes


def test_the_cpu_time_of_a_command_is_measured() -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass\nprint('done')"
    usage = watched([sys.executable, "-c", work])
    assert usage.cpu_seconds >= 0.5
    assert usage.output == "done\n"


def test_a_command_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="failed\nno luck"):
        watched([sys.executable, "-c", "import sys; sys.exit('no luck')"])
