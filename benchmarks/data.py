"""CPU time and memory of data of any number of rows, in child processes. The model is tiny, so that data dominate.

- reward: a reward model on pairs, two steps, started twice; then the tokenizer alone on the same texts
- trl: the same with TRL's reward trainer
- growth: the first start with 1,000 to ``--rows`` pairs
- inspect: `plaudit data inspect` of the pairs
- processes: the first start with two processes
- kill: a first start that is killed again and again; the stored rows and tokens must be those of a start that was not

Memory is the peak of all processes together, in total and anonymous, that is, without mapped files. The difference from
a start with 1,000 rows is what the data need; the rest is torch, the libraries and the model.

    python benchmarks/data.py reward --rows 164780
    python benchmarks/data.py growth --rows 1000000
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from comparison.environment import FOLDER, python_with
from comparison.materials import make_models
from comparison.options import common_options, parsed, positive
from datasize.inputs import recipe, write_pairs
from datasize.watching import Usage, watched

TRL = "1.16.0"
FEW = 1000
COLUMNS = "{:34}{:>10}{:>10}{:>12}{:>14}"


def main() -> None:
    """Measure one task and print a table."""
    options = _options()
    FOLDER.mkdir(exist_ok=True)
    work = FOLDER / "data"
    work.mkdir(exist_ok=True)
    print(f"{options.task}, {options.rows} pairs of {options.data.name}")
    print(COLUMNS.format("", "wall s", "CPU s", "peak MB", "anonymous MB"))
    TASKS[options.task](options, make_models(options.data, "tiny") / "scorer", work)


def _options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("task", choices=tuple(TASKS))
    parser.add_argument("--rows", type=positive, default=164_780, help="number of pairs (default: as hh-rlhf)")
    parser.add_argument("--kills", type=positive, default=10, help="kill: number of kills")
    return parsed(parser)


# Tasks ---------------------------------------------------------------------------------------------------------------


def _reward(options: argparse.Namespace, model: Path, work: Path) -> None:
    data = _pairs(options, work)
    for rows in sorted({FEW, options.rows}):
        output, part = _empty(work / "runs"), _pairs(options, work, rows)
        _row(f"{rows} rows, first start", _start(model, part, output, "first"))
        _row(f"{rows} rows, second start", _start(model, part, output, "second"))
    script = Path(__file__).parent / "datasize" / "tokenizer_alone.py"
    alone = watched([sys.executable, str(script), str(data), str(model)], _paths())
    counted = json.loads(alone.output.splitlines()[-1])
    print(f"tokenizer alone: {counted['cpu_seconds']:.1f} CPU s for {counted['tokens']} tokens")


def _trl(options: argparse.Namespace, model: Path, work: Path) -> None:
    python, script = python_with("trl", TRL), Path(__file__).parent / "datasize" / "trl_reward.py"
    folder = _empty(work / "trl")
    for start in ("first", "second"):
        command = [str(python), str(script), str(_pairs(options, work)), str(model), str(folder)]
        usage = watched(command, {**_paths(), "HF_DATASETS_CACHE": str(folder / "cache")})
        counted = json.loads(usage.output.splitlines()[-1])
        _row(f"TRL, {start} start, {counted['kept']} rows kept", usage)


def _growth(options: argparse.Namespace, model: Path, work: Path) -> None:
    rows = FEW
    while rows <= options.rows:
        _row(f"{rows} rows, first start", _start(model, _pairs(options, work, rows), _empty(work / "runs"), "first"))
        rows *= 10


def _inspect(options: argparse.Namespace, model: Path, work: Path) -> None:
    for rows in sorted({FEW, options.rows}):
        command = [sys.executable, "-m", "plaudit", "data", "inspect", str(_pairs(options, work, rows))]
        _row(f"{rows} rows", watched(command))


def _processes(options: argparse.Namespace, model: Path, work: Path) -> None:
    for processes in (1, 2):
        output = _empty(work / "runs")
        _row(f"{processes} process(es), first start", _start(model, _pairs(options, work), output, "a", processes))
        _row(f"{processes} process(es), second start", _start(model, _pairs(options, work), output, "b", processes))


def _kill(options: argparse.Namespace, model: Path, work: Path) -> None:
    data, draws = _pairs(options, work), random.Random(0)
    whole, killed = _empty(work / "whole"), _empty(work / "killed")
    usage = _start(model, data, whole, "run")
    _row("not killed", usage)
    for _ in range(options.kills):
        process = subprocess.Popen(
            _command(model, data, killed, "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draws.uniform(0, usage.seconds / 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    _row(f"after {options.kills} kills", _start(model, data, killed, "run"))
    same = _stored(whole) == _stored(killed)
    print(f"stored rows and tokens: {'the same bytes' if same else 'DIFFERENT'}")
    if not same:
        raise SystemExit(1)


TASKS: dict[str, Callable[[argparse.Namespace, Path, Path], None]] = {
    "reward": _reward,
    "trl": _trl,
    "growth": _growth,
    "inspect": _inspect,
    "processes": _processes,
    "kill": _kill,
}


# Their parts ---------------------------------------------------------------------------------------------------------


def _pairs(options: argparse.Namespace, work: Path, rows: int | None = None) -> Path:
    count = rows or options.rows
    return write_pairs(options.data, count, work / f"{options.data.name.removesuffix('.jsonl.gz')}-{count}.jsonl")


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _command(model: Path, data: Path, output: Path, name: str, processes: int = 1) -> list[str]:
    path = output / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe(model, data, output, "reward", name, processes)), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    return [sys.executable, *launcher, "-m", "plaudit", "run", str(path)]


def _start(model: Path, data: Path, output: Path, name: str, processes: int = 1) -> Usage:
    return watched(_command(model, data, output, name, processes))


def _stored(output: Path) -> dict[str, str]:
    """Return the checksum of every file of the store except locks."""
    files = [path for path in (output / ".cache").rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(output)): sha256(path.read_bytes()).hexdigest() for path in files}


def _paths() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}


def _row(label: str, usage: Usage) -> None:
    numbers: list[Any] = [f"{usage.seconds:.1f}", f"{usage.cpu_seconds:.1f}"]
    numbers += [f"{size / 1e6:.0f}" for size in (usage.peak_bytes, usage.anonymous_bytes)]
    print(COLUMNS.format(label, *numbers), flush=True)


if __name__ == "__main__":
    main()
