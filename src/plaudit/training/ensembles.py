"""Ensembles: the same stage several times, each member in its own folder. Finished members are not repeated."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from plaudit.config.schema import Section
from plaudit.runs.context import StageContext
from plaudit.runs.directory import StageDirectory

ConfigT = TypeVar("ConfigT", bound=Section)


def members(context: StageContext[ConfigT], count: int) -> list[StageContext[ConfigT]]:
    """Return a context for each member of a stage; member n, from 1, is in ``member-n`` of the stage's folder."""
    folders = [context.directory.folder / f"member-{number}" for number in range(1, count + 1)]
    return [replace(context, directory=StageDirectory(folder)) for folder in folders]


def combined(context: StageContext[Section], count: int) -> dict[str, Any]:
    """Return the result of a stage whose members are all finished: the first member's result and all accuracies.

    The stage's folder gets the first member's metrics and notes, and hard links to its model where the disk has them.
    """
    folders = [member.directory for member in members(context, count)]
    if context.session.is_main:
        shutil.copytree(folders[0].model, context.directory.model, copy_function=_link, dirs_exist_ok=True)
        shutil.copyfile(folders[0].metrics, context.directory.metrics)
        shutil.copyfile(folders[0].notes_file, context.directory.notes_file)
    results = [folder.result() for folder in folders]
    return results[0] | {
        "seconds": sum(result["seconds"] for result in results),
        "members": [{"held_out/accuracy": result.get("held_out/accuracy")} for result in results],
    }


def _link(source: str, target: str) -> None:
    """Make a hard link or, on a disk without them, a copy."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
