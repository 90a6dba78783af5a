"""The trash of a run: stages removed by ``--restart``, kept until they have been finished again."""

import logging
import os
import shutil
from collections.abc import Collection, Mapping
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.errors import PlauditError
from plaudit.files import synchronize

if TYPE_CHECKING:
    from plaudit.runs.directory import StageDirectory

logger = logging.getLogger(__name__)

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


def move_to_trash(stage_folder: Path, configuration: Path) -> Path:
    """Move a stage's folder to the trash as a whole, with a copy of the run's configuration; return its new place.

    Earlier folders of that name stay there.
    """
    trash = stage_folder.parent / TRASH
    trash.mkdir(exist_ok=True)
    names = (stage_folder.name if number == 1 else f"{stage_folder.name}-{number}" for number in count(1))
    place = next(trash / name for name in names if not (trash / name).exists())
    shutil.copyfile(configuration, stage_folder / configuration.name)
    os.rename(stage_folder, place)
    synchronize(trash)
    synchronize(stage_folder.parent)
    return place


def put_back(removed: Mapping[Path, Path], configuration: Path) -> None:
    """Exchange folders with those in the trash, and restore the configuration; ``removed``: folder -> trash."""
    for folder, place in removed.items():
        failed = place.with_name(f".{place.name}")
        if folder.exists():
            os.rename(folder, failed)
        os.replace(place / configuration.name, configuration)
        os.rename(place, folder)
        if failed.exists():
            os.rename(failed, place)
    logger.warning(
        "put back %s, because nothing was computed instead; what this start wrote there is in %s",
        *(", ".join(map(str, removed)), configuration.parent / TRASH),
    )


def log_places(removed: Mapping[Path, Path], configuration: Path) -> None:
    """Log where removed stages are, and how to get them back; ``removed``: folder -> trash."""
    for folder, place in removed.items():
        logger.warning(
            "the former %s is kept in %s; to get it back, replace %s by it and %s by its %s",
            *(folder.name, place, folder, configuration, configuration.name),
        )


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
