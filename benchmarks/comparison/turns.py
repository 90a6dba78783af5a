"""Runs the sides alternately, A B A B, so that changes in the machine's speed affect both alike."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comparison.meter import Meter

Result = dict[str, float]
Side = Callable[[], Result]


def timed(work: Callable[[], int], device: str) -> Side:
    """Return a side in this process: it does the work once and returns the cost; ``work`` returns its units."""

    def side() -> Result:
        meter = Meter(device)
        meter.start()
        units = work()
        meter.stop()
        return {"seconds": meter.seconds, "cpu_seconds": meter.cpu_seconds, "units": units}

    return side


def by_turns(sides: Mapping[str, Side], repeats: int) -> list[dict[str, Result]]:
    """Run all sides once to warm up, then ``repeats`` rounds; every side must do the same units of work."""
    for side in sides.values():
        side()
    rounds = [{name: side() for name, side in sides.items()} for _ in range(repeats)]
    units = {name: {results[name]["units"] for results in rounds} for name in sides}
    if len(set.union(*units.values())) != 1:
        raise SystemExit(f"the sides did not do the same work: {units}")
    return rounds


@contextmanager
def elsewhere(python: Path, module: str, task: dict[str, Any], folder: Path, **environment: str) -> Iterator[Side]:
    """Yield a side that another Python process computes; the process keeps running between turns.

    ``python -m comparison.MODULE TASK`` answers every line of its input with a line of JSON. Its log is ``folder/log``.
    """
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    variables = os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [str(python), "-m", f"comparison.{module}", str(folder / "task.json")]
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(command, env=variables, stdin=-1, stdout=-1, stderr=log, text=True) as process,
    ):

        def side() -> Result:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("again\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{module} failed:\n{(folder / 'log').read_text(encoding='utf-8')[-4000:]}")
            result: Result = json.loads(line)
            return result

        yield side
