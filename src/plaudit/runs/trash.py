"""The trash of a run: stages removed by ``--restart``, kept until they have been finished again."""

import logging
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.errors import PlauditError
from plaudit.files import synchronize
from plaudit.registries.stages import STAGES
from plaudit.runs.own_files import other_files

if TYPE_CHECKING:
    from plaudit.runs.directory import StageDirectory

logger = logging.getLogger(__name__)

TRASH = ".trash"
SHOWN_FILES = 10


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
    place = _free(trash, stage_folder.name)
    own = stage_folder / configuration.name
    if own.exists() and own.read_bytes() != configuration.read_bytes():
        os.rename(own, _free(stage_folder, f"own-{own.name}"))
    shutil.copyfile(configuration, own)
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


def empty_trash(run_folder: Path, stage: str | None = None) -> None:
    """Delete all stages in the trash, or what one stage has left there.

    Files that Plaudit has not written are moved within the trash, to a folder that the log names.
    """
    trash = run_folder / TRASH
    kept = sorted(trash.iterdir()) if trash.is_dir() else []
    for folder in kept:
        its_stage = _stage_of(folder)
        if folder.is_dir() and not folder.is_symlink() and its_stage in (STAGES if stage is None else (stage,)):
            _keep(sorted(other_files(folder, its_stage)), folder)
            shutil.rmtree(folder)
            logger.info("deleted %s, which --restart had removed", folder)
    if trash.is_dir() and not any(trash.iterdir()):
        trash.rmdir()


def _keep(others: Sequence[Path], folder: Path) -> None:
    """Move files out of a folder that is about to be deleted."""
    if not others:
        return
    place = _free(folder.parent, f"kept-{folder.name}")
    for path in others:
        new = place / path.relative_to(folder)
        new.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, new)
    names = [path.relative_to(folder).as_posix() for path in others]
    more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
    logger.warning(
        "kept in %s what Plaudit did not write, or what has changed since: %s%s; move or delete it yourself",
        *(place, ", ".join(names[:SHOWN_FILES]), more),
    )


def _free(folder: Path, name: str) -> Path:
    """Return a path in a folder that does not exist yet: ``name``, else ``name-2`` and so on."""
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(folder / candidate for candidate in names if not (folder / candidate).exists())


def _stage_of(folder: Path) -> str:
    name, _, number = folder.name.rpartition("-")
    return name if number.isdecimal() else folder.name
