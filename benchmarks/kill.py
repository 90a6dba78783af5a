"""Kills runs at random times and at chosen file operations, restarts them, and compares the results bit by bit.

A run of tiny models with all stages is repeated in several arrangements of weights and processes. Each is first run
without interruption. Then the same run is started again and again until it finishes, and is killed by SIGKILL each
time: after a random time, before a file is opened for writing, renamed, removed or synchronized, before a folder is
made, or in the middle of a write. At the end weights, metrics, samples, results and all other files must be those of
the uninterrupted run, except for times.

    python benchmarks/kill.py --kills 100
    python benchmarks/kill.py --stages rl --arrangements shared fsdp2 --seed 7

A kill keeps what the operating system holds for the disk; what a power failure would lose is not tested.
"""

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from killing.folders import differences
from killing.recipes import ARRANGEMENTS, NEEDED, write_recipe
from killing.victims import KINDS, Fatal, Victims, import_everything

TIME = "time"
APART = 0.4
"""The next kill comes within this fraction of a whole run's operations or time."""
MOST_KILLS = 5
"""Kills of one whole run."""


class Target:
    """A run in one arrangement, its uninterrupted result, and its kills so far."""

    def __init__(self, name: str, folder: Path, stages: Sequence[str]) -> None:
        self.name, self.folder = name, folder
        self.processes = ARRANGEMENTS[name].processes
        folder.mkdir()
        self.arguments = ["run", str(write_recipe(folder, ARRANGEMENTS[name], list(stages)))]
        self.kills: Counter[str] = Counter()
        self.whole_runs = 0
        self.differences: list[str] = []
        started = time.monotonic()
        self._start().wait()
        self.seconds = time.monotonic() - started
        self.check_success()
        self.operations = [
            Counter(line.partition(" ")[0] for line in self.victims.record(rank).read_text().splitlines())
            for rank in range(self.processes)
        ]
        (folder / "runs").rename(folder / "uninterrupted")

    def _start(self, fatal: Fatal | None = None) -> Victims:
        self.victims = Victims(self.arguments, self.processes, self.folder, fatal)
        return self.victims

    def check_success(self) -> None:
        """Record as a difference if a process failed."""
        for rank, code in sorted(self.victims.codes.items()):
            if code != 0:
                printed = self.victims.log(rank).read_text().splitlines() or [""]
                self.differences.append(f"process {rank} ended with exit code {code}: {printed[-1]}")

    def kill_until_finished(self, choice: random.Random, most: int) -> int:
        """Start the run until it has finished, killing it at most some times; return how often it was killed."""
        kills = 0
        moments = []
        while True:
            moment = self._attempt(choice) if kills < most else self._attempt(None)
            if moment is None:
                break
            kills += 1
            moments.append(moment)
        self.whole_runs += 1
        before = len(self.differences)
        self.check_success()
        self.differences += differences(self.folder / "uninterrupted" / "tiny", self.folder / "runs" / "tiny")
        if len(self.differences) > before:
            print(f"{self.name}: killed at {', '.join(moments)}", *self.differences[before:], sep="\n  ", flush=True)
            self.folder.joinpath("runs").rename(self.folder / f"different-{self.whole_runs}")
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        return kills

    def _attempt(self, choice: random.Random | None) -> str | None:
        """Start the run and kill it, with a choice; return when it was killed, or None if it ended before."""
        if choice is None:
            self._start().wait()
            self.victims.end()
            return None
        kind = choice.choice([TIME, TIME, *KINDS])
        rank = choice.choice([0, 0, 0, self.processes - 1])
        most = self.operations[rank][kind]
        if kind == TIME or not most:
            kind = TIME
            self._start()
            if not self.victims.wait(choice.uniform(0, APART * self.seconds)):
                self.victims.kill(rank)
                self.victims.wait()
        else:
            self._start(Fatal(rank, kind, choice.randint(1, max(1, int(APART * most))))).wait()
        killed = -9 in self.victims.codes.values()
        self.victims.end()
        if not killed:
            return None
        self.kills[kind] += 1
        done = self.victims.record(rank).read_text().splitlines()
        return f"{kind} ({done[-1].replace(str(self.folder / 'runs'), '') if done else 'at the start'})"


def main() -> int:
    """Kill, print a table, and return the exit code: 1 if a result differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how often to kill (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="determines when (default: 0)")
    parser.add_argument("--stages", nargs="+", choices=NEEDED, default=list(NEEDED), help="these and what they need")
    parser.add_argument("--arrangements", nargs="+", choices=ARRANGEMENTS, default=list(ARRANGEMENTS))
    parser.add_argument("--processes", type=int, choices=(1, 2), help="only arrangements of as many processes")
    parser.add_argument("--keep", type=Path, help="write into this new folder and keep it")
    options = parser.parse_args()
    names = [name for name in options.arrangements if options.processes in (None, ARRANGEMENTS[name].processes)]
    import_everything()
    folder = Path(mkdtemp()) if options.keep is None else options.keep.resolve()
    folder.mkdir(parents=True, exist_ok=options.keep is None)
    targets = [Target(name, folder / name, options.stages) for name in names]
    choice, left = random.Random(options.seed), options.kills
    while left and not any(target.differences and not target.whole_runs for target in targets):
        target = min(targets, key=lambda target: sum(target.kills.values()))
        left -= target.kill_until_finished(choice, min(left, MOST_KILLS))
    if options.keep is None:
        shutil.rmtree(folder)
    return _print_table(targets)


def _print_table(targets: Sequence[Target]) -> int:
    columns = [TIME, *KINDS]
    print("| arrangement | processes | whole runs |", " | ".join(columns), "| kills | differences |")
    print("|" + "---|" * (5 + len(columns)))
    for target in targets:
        counts = [str(target.kills[kind]) for kind in columns]
        total = sum(target.kills.values())
        row = [target.name, target.processes, target.whole_runs, *counts, total, len(target.differences)]
        print("|", " | ".join(map(str, row)), "|")
    kills, found = sum(sum(target.kills.values()) for target in targets), sum(len(t.differences) for t in targets)
    print(f"{kills} kills, {found} differences")
    for target in targets:
        for line in target.differences:
            print(f"{target.name}: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
