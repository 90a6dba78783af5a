"""The folder of a run: its configuration, a lock against a second writer, and a folder per stage."""

import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filelock import BaseFileLock

from plaudit.config.load import dump, replace_references
from plaudit.config.schema import Recipe, Section
from plaudit.errors import PlauditError
from plaudit.files import json_text, read_json, sha256, synchronize, write_atomically
from plaudit.registries.stages import STAGES
from plaudit.runs.changes import refuse_changes
from plaudit.runs.jsonl import rewind
from plaudit.runs.locks import locked
from plaudit.runs.manifest import (
    MANIFEST,
    check_files,
    check_recorded,
    record_stages,
    recorded_stages,
    write_checksums,
)
from plaudit.runs.own_files import is_written
from plaudit.runs.ownership import CONFIGURATION, HEADER, is_configuration, refuse_foreign_folder
from plaudit.runs.trash import empty_trash, log_places, move_to_trash, put_back, removal_notice

logger = logging.getLogger(__name__)

SectionT = TypeVar("SectionT", bound=Section)

REJECTS = "rejects.jsonl"  # bad records of a stage's data
INPUTS = "inputs.json"
NOTES = "notes.json"
CHECKPOINTS = "checkpoints"
TRACKERS = "trackers"


@dataclass(frozen=True)
class StageDirectory:
    """The folder of one stage. A stage has begun once it has written results; ``result.json`` marks it as finished."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder: the stage, or a member of its ensemble."""
        return self.folder.name

    @property
    def stage(self) -> str:
        """The stage, also for a member of its ensemble."""
        return self.name if self.name in STAGES else self.folder.parent.name

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
        return self.folder / CHECKPOINTS

    @property
    def model(self) -> Path:
        """Folder of the trained model with its tokenizer."""
        return self.folder / "model"

    @property
    def begun(self) -> bool:
        """Whether the stage has written files other than hidden ones and those that every start rewrites."""
        if not self.folder.is_dir():
            return False
        return any(path.name not in (REJECTS, INPUTS, NOTES) and path.name[0] != "." for path in self.folder.iterdir())

    @property
    def finished(self) -> bool:
        """Whether the stage is complete."""
        return self.result_file.exists()

    @property
    def result_file(self) -> Path:
        """The closing numbers of a finished stage."""
        return self.folder / "result.json"

    @property
    def notes_file(self) -> Path:
        """What the report should say about the stage's data."""
        return self.folder / NOTES

    @property
    def summary_file(self) -> Path:
        """The comparison of models that the stage evaluate writes."""
        return self.folder / "summary.json"

    def create(self) -> "StageDirectory":
        """Create the folder and return ``self``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def rewind(self, step: int | None) -> None:
        """Drop metrics and samples after the checkpoint's step (None: all), because they will be written again."""
        last = rewind(self.metrics, step)
        if step and last != step:
            logger.warning("%s: lacks what was measured up to step %d; it stays incomplete", self.metrics, step)
        rewind(self.samples, step)

    def write_notes(self, notes: Sequence[str]) -> None:
        """Write what the report should say about the stage's data."""
        write_atomically(self.notes_file, json_text({"notes": notes}, indent=2) + "\n")

    def synchronize_records(self) -> None:
        """Wait until metrics and samples have reached the disk."""
        for path in (self.metrics, self.samples):
            if path.exists():
                synchronize(path)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the checksums of all files, wait until they have reached the disk, and write ``result.json``."""
        text = json_text(result, indent=2) + "\n"
        writes = partial(is_written, self.stage)
        write_checksums(self.create().folder, (CHECKPOINTS, TRACKERS), writes, {self.result_file.name: text})
        for path in (*self.folder.rglob("*"), self.folder):
            if CHECKPOINTS not in path.relative_to(self.folder).parts:  # these were synchronized when they were saved
                synchronize(path)
        write_atomically(self.result_file, text)

    def verify(self, *files: Path) -> None:
        """Raise PlauditError if the stage has finished and a file has changed since; of these ``files``, if any.

        Single files of a stage without a manifest are not verified.
        """
        if self.finished:
            if not files or (self.folder / MANIFEST).exists():
                check_recorded(self.folder, [file.name for file in files] or None)
            self.result()

    def result(self) -> dict[str, Any]:
        """Return the closing numbers of a finished stage."""
        return read_json(self.result_file, self._remedy)

    def summary(self) -> dict[str, Any]:
        """Return the comparison of models that the stage evaluate has written."""
        return read_json(self.summary_file, self._remedy)

    def checksum(self) -> str | None:
        """Return the SHA-256 of the result, which differs for every run of a stage; None for an unfinished stage."""
        return sha256(self.result_file) if self.finished else None

    def inputs(self) -> dict[str, str | None]:
        """Return earlier stage -> checksum of its result when this stage began; empty if nothing was recorded."""
        path = self.folder / INPUTS
        return read_json(path, self._remedy) if path.exists() else {}

    @property
    def _remedy(self) -> str:
        return f"restore it from a copy, or repeat the stage {self.name} with --restart"


class RunDirectory:
    """The folder of a run. Only the main process writes, and it must call ``open`` first; reading needs no ``open``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = None
        self._kept: list[str] = []
        self._removed: dict[Path, Path] = {}

    @property
    def configuration(self) -> Path:
        """The resolved recipe."""
        return self.folder / CONFIGURATION

    @property
    def metadata(self) -> Path:
        """Seed, versions, device, data checksums and timings."""
        return self.folder / "metadata.json"

    def stage(self, name: str) -> StageDirectory:
        """Return a stage's folder, which may not exist yet."""
        return StageDirectory(self.folder / name)

    def resolve(self, section: SectionT) -> SectionT:
        """Replace ``stage:NAME`` by the path of that stage's model, and ``stage:NAME/FILE`` by the path of the file."""
        return replace_references(section, lambda stage, file: str(self.referenced(stage, file)))

    def referenced(self, stage: str, file: str) -> Path:
        """Return the path that ``stage:NAME/FILE`` means; with an empty FILE, that of the stage's model."""
        directory = self.stage(stage)
        return directory.folder / file if file else directory.model

    def open(
        self,
        recipe: Recipe,
        restart: bool = False,
        restart_stages: Collection[str] = (),
        confirm: Callable[[str], bool] = lambda _: True,
        verify: Callable[[Collection[str]], None] = lambda _: None,
    ) -> "RunDirectory":
        """Create the run or resume it, and lock it until ``close`` or the end of the process.

        ``restart`` moves the folders of all stages to the run's trash; ``restart_stages`` those of these stages and of
        all that were computed from them. Before that, ``verify`` gets their names, and raises an error to prevent it;
        ``confirm`` gets a sentence with their names and returns whether to go on. All other stages resume. Then only
        two things may change: keys that no result depends on, and the sections of stages that have not begun.

        Raises ``PlauditError`` if another process writes this run, if the folder holds something else, if removing was
        not confirmed, or, with the differences, if the configuration has changed in any other way.
        """
        refuse_foreign_folder(self.folder)
        self._lock = locked(self.folder)
        with ExitStack() as failure:
            failure.callback(self.close)
            removed = self._to_remove(STAGES.names if restart else restart_stages)
            self._kept = [stage for stage in self._begun() if stage not in removed]
            if self.configuration.exists() and not restart:
                refuse_changes(self.configuration, recipe, self._kept)
            verify(removed)
            self._remove(removed, confirm)
            write_atomically(self.configuration, HEADER + dump(recipe))
            record_stages(self.folder, recorded_stages(self.folder))
            failure.pop_all()
        return self

    def _to_remove(self, wanted: Collection[str]) -> list[str]:
        """Return the stages among ``wanted`` that have a folder, and those computed from them, such as the report.

        Raises PlauditError for a folder that Plaudit has not made.
        """
        recorded = recorded_stages(self.folder)
        found = [name for name in STAGES if name in wanted and self.stage(name).folder.exists()]
        for name in STAGES:  # in the order in which they run
            stale = {*found} & {*self.stage(name).inputs()} or (found and STAGES[name].repeats and name in recorded)
            if stale and name not in found and self.stage(name).folder.exists():
                found.append(name)
        for name in found:
            if self.stage(name).folder.is_symlink():
                raise PlauditError(
                    f"{self.stage(name).folder}: a symbolic link, and --restart removes only folders; remove the link "
                    "yourself, and check what was computed from that stage"
                )
            if name not in recorded:
                raise PlauditError(
                    f"{self.stage(name).folder}: manifest.json of the run does not name it, so Plaudit may not have "
                    "made it; move it away yourself, or choose another name for the run"
                )
        return found

    def _remove(self, stages: Collection[str], confirm: Callable[[str], bool]) -> None:
        begun = [self.stage(name) for name in stages if self.stage(name).begun]
        if begun:
            logger.warning(notice := removal_notice(begun, self.folder))
            if not confirm(notice):
                raise PlauditError(f"{self.folder}: nothing was removed; without --restart, finished stages are kept")
        for name in reversed(list(stages)):
            folder = self.stage(name).folder
            self._removed[folder] = move_to_trash(folder, self.configuration)

    def undo_restart(self) -> None:
        """Put removed stages back if nothing has been computed since; otherwise log where they are."""
        removed = {folder: place for folder, place in self._removed.items() if place.exists()}
        if removed:
            (put_back if self._begun() == self._kept else log_places)(removed, self.configuration)

    def _begun(self) -> list[str]:
        return [name for name in STAGES if self.stage(name).begun]

    def empty_trash(self, stage: str | None = None) -> None:
        """Delete what ``--restart`` had removed, of one stage or of all; the user's own files stay."""
        empty_trash(self.folder, stage)

    def remove_if_unused(self) -> None:
        """Delete a new run in which no stage has begun and no bad records were listed."""
        used = self._begun() or any((self.stage(name).folder / REJECTS).exists() for name in STAGES)
        if not used and is_configuration(self.configuration):
            shutil.rmtree(self.folder)

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def record_inputs(self, stage: str, earlier: Collection[str]) -> None:
        """Record, at the start of a stage, the checksums of the earlier results that it depends on."""
        record_stages(self.folder, {*recorded_stages(self.folder), stage})
        inputs = {name: self.stage(name).checksum() for name in sorted(earlier)}
        write_atomically(self.stage(stage).create().folder / INPUTS, json_text(inputs, indent=2) + "\n")

    def replaced_inputs(self, stage: str) -> list[str]:
        """Return the inputs of a stage whose results have changed since it began.

        A result has changed if its stage was restarted or deleted, or if one of that stage's own inputs has changed.
        """
        recorded = self.stage(stage).inputs() if self.stage(stage).begun else {}
        changed = (
            name
            for name, checksum in recorded.items()
            if checksum != self.stage(name).checksum() or self.replaced_inputs(name)
        )
        return list(changed)

    def verify(self, stage: str, file: str) -> None:
        """Check the files that ``stage:NAME/FILE`` means against the checksums from the end of that stage.

        Raises PlauditError, with the file, if one has changed since.
        """
        check_files(self.stage(stage).folder, self.referenced(stage, file))
