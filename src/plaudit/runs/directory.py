"""The folder of a run: its configuration, a lock against a second writer, and a folder for each stage."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TextIO

from plaudit.config.load import dump, load_recipe
from plaudit.config.schema import STAGES, Recipe
from plaudit.errors import PlauditError
from plaudit.runs.files import json_text, synchronise, write_atomically
from plaudit.runs.jsonl import rewind

HEADER = "# The resolved configuration of a run of plaudit.\n"

# What the schema says results do not depend on, where the run is kept and shown, and how many cores compute it.
FREE_KEYS = (
    "description",
    "output",
    "threads",
    "trackers",
    "trackers.*",
    "*.checkpoint_every",
    "*.keep_checkpoints",
    "*.token_budget",
    "*.pack_length",
    "*.gradient_checkpointing",
    "*.generation.batch_size",
    "*.rewards.*.batch_size",
    "*.rewards.*.timeout",
)
REJECTS = "rejects.jsonl"  # bad rows of a stage's data
SHOWN_DIFFERENCES = 8


@dataclass(frozen=True)
class StageDirectory:
    """The folder of one stage. It has begun when it holds more than bad rows, and is finished with its result."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.folder.name

    @property
    def metrics(self) -> Path:
        """JSON lines with step, seconds and metrics."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """JSON lines with step, prompt, response and scores."""
        return self.folder / "samples.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model with its tokenizer."""
        return self.folder / "model"

    @property
    def begun(self) -> bool:
        """Whether anything has been written but the bad rows, which every start writes anew."""
        return self.folder.is_dir() and any(path.name != REJECTS for path in self.folder.iterdir())

    @property
    def finished(self) -> bool:
        """Whether the stage is complete."""
        return self._result_file.exists()

    @property
    def _result_file(self) -> Path:
        return self.folder / "result.json"

    def create(self) -> "StageDirectory":
        """Make the folder, and return this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def rewind(self, step: int | None) -> None:
        """Drop metrics and samples later than the checkpoint's step (None: all), for they will be written again."""
        rewind(self.metrics, step)
        rewind(self.samples, step)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, last and at once, when everything else in the folder has reached the disk."""
        for path in (*self.create().folder.rglob("*"), self.folder):
            synchronise(path)
        write_atomically(self._result_file, json_text(result, indent=2) + "\n")

    def result(self) -> dict[str, Any]:
        """Return the summary of a finished stage."""
        result: dict[str, Any] = json.loads(self._result_file.read_text(encoding="utf-8"))
        return result


class RunDirectory:
    """The folder of a run. Reading needs nothing; writing needs ``open``, in the main process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: TextIO | None = None

    @property
    def configuration(self) -> Path:
        """The resolved recipe."""
        return self.folder / "config.yaml"

    @property
    def metadata(self) -> Path:
        """Seed, versions, device, data checksums and timings."""
        return self.folder / "metadata.json"

    def stage(self, name: str) -> StageDirectory:
        """Return a stage's folder, which need not exist."""
        return StageDirectory(self.folder / name)

    def open(self, recipe: Recipe, restart: bool = False) -> "RunDirectory":
        """Create the run or continue it, and lock it until ``close`` or the end of the process, however it ends.

        With ``restart`` an earlier run in this folder is deleted. Otherwise its stages go on: keys that no result
        depends on may change, and so may everything about a stage as long as neither it nor a later one has begun.

        Raises ``PlauditError`` if another process writes this run, if the folder holds something else, or if the
        configuration has changed in any other way, with the differences.
        """
        self._refuse_foreign_folder()
        if self.configuration.exists() and not restart:
            self._refuse_changes(load_recipe(str(self.configuration)), recipe)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        if restart:
            self._start_over()
        write_atomically(self.configuration, HEADER + dump(recipe))
        return self

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_foreign_folder(self) -> None:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise PlauditError(f"{self.folder}: is a file; choose another name or output")
        foreign = not _is_ours(self.configuration) and any(
            not path.name.startswith(".") for path in self.folder.iterdir()
        )
        if foreign:
            raise PlauditError(f"{self.folder}: holds something that is no run; choose another name or output")

    def _start_over(self) -> None:
        """Delete the earlier run, if there is one: under another name, so that a kill leaves all of it or nothing."""
        doomed = self.folder.with_name(f".{self.folder.name}.deleted")
        if doomed.exists():
            shutil.rmtree(doomed)
        if self.configuration.exists():
            os.rename(self.folder, doomed)
            self.folder.mkdir()
            self.close()
            self._lock = _locked(self.folder)
            shutil.rmtree(doomed)

    def _refuse_changes(self, old: Recipe, new: Recipe) -> None:
        begun = [stage for stage in STAGES if self.stage(stage).begun]
        fixed = STAGES[: STAGES.index(begun[-1]) + 1] if begun else ()
        changes = [
            f"{key}: {_short(before)} -> {_short(after)}"
            for key, before, after in differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
            if begun and not _may_change(key, fixed)
        ]
        if changes:
            more = [f"and {len(changes) - SHOWN_DIFFERENCES} more"] if len(changes) > SHOWN_DIFFERENCES else []
            raise PlauditError(
                f"{self.configuration}: the configuration has changed since {', '.join(begun)} began: "
                f"{'; '.join(changes[:SHOWN_DIFFERENCES] + more)}; undo this, delete the folders of the stages that "
                "should run again, or start over with --restart"
            )


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key, old value and new value wherever two nested configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{key}.{index}")
    elif old != new:
        yield key, old, new


def _may_change(key: str, fixed_stages: tuple[str, ...]) -> bool:
    """Whether a key is free, or belongs to a stage after the last one that has begun."""
    section = key.partition(".")[0]
    free = any(fnmatchcase(key, pattern) for pattern in FREE_KEYS)
    return free or (section in STAGES and section not in fixed_stages)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_ours(configuration: Path) -> bool:
    return configuration.is_file() and configuration.read_bytes().startswith(HEADER.encode())


def _locked(folder: Path) -> TextIO:
    """Return an open file that this process has locked; the system releases the lock when the process ends."""
    path = folder / ".lock"
    file = path.open("a+", encoding="utf-8")
    try:
        # Locks of this kind stay with the process: a child that outlives a killed run does not hold them.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = path.read_text(encoding="utf-8")
        file.close()
        raise PlauditError(f"{folder}: process {holder} is writing this run; wait for it, or stop it first") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
