"""The trash of a run: stages removed by ``--restart``, kept until they have been finished again."""

import os
import shutil
from collections.abc import Collection
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.errors import PlauditError
from plaudit.files import synchronize

if TYPE_CHECKING:
    from plaudit.runs.directory import StageDirectory

TRASH = ".trash"


def removal_notice(stages: Collection["StageDirectory"], run_folder: Path) -> str:
    """Return a sentence that names every folder to be removed, with what it holds and where it is kept."""
    what = ", ".join(f"{stage.folder} ({_state(stage)})" for stage in stages)
    return f"--restart removes {what}; kept in {run_folder / TRASH} until the next success"


def _state(stage: "StageDirectory") -> str:
    if not stage.finished:
        return "not finished"
    try:
        seconds = stage.result().get("seconds")
    except PlauditError:
        return "finished"
    return f"finished, took {timedelta(seconds=round(seconds))}" if isinstance(seconds, int | float) else "finished"


def move_to_trash(stage_folder: Path) -> None:
    """Move a stage's folder to the trash as a whole; earlier folders of that name stay there."""
    trash = stage_folder.parent / TRASH
    trash.mkdir(exist_ok=True)
    names = (stage_folder.name if number == 1 else f"{stage_folder.name}-{number}" for number in count(1))
    os.rename(stage_folder, next(trash / name for name in names if not (trash / name).exists()))
    synchronize(trash)
    synchronize(stage_folder.parent)


def empty_trash(run_folder: Path, stage: str | None = None) -> list[Path]:
    """Delete all that is in the trash, or only what a stage has left there; return the deleted folders."""
    trash = run_folder / TRASH
    kept = sorted(trash.iterdir()) if trash.is_dir() else []
    doomed = [folder for folder in kept if stage is None or _stage_of(folder) == stage]
    for folder in doomed:
        shutil.rmtree(folder)
    if trash.is_dir() and len(doomed) == len(kept):
        trash.rmdir()
    return doomed


def _stage_of(folder: Path) -> str:
    name, _, number = folder.name.rpartition("-")
    return name if number.isdecimal() else folder.name
