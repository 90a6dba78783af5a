"""An ensemble: the same stage several times, each member in a folder of its own, finished ones never repeated."""

import shutil
from collections.abc import Callable
from typing import Any

from plaudit.runs.directory import StageDirectory
from plaudit.runs.session import Session

Result = dict[str, Any]


def train_members(
    count: int, session: Session, stage: StageDirectory, train: Callable[[StageDirectory, int], Result]
) -> Result:
    """Train ``count`` members with ``train(folder, number)``, numbers from 1, and return the first one's result.

    Member n is in ``member-n`` of the stage's folder; the first is also the stage's own model, with its metrics.
    """
    folders = [StageDirectory(stage.folder / f"member-{number}") for number in range(1, count + 1)]
    for number, folder in enumerate(folders, start=1):
        if not folder.finished:
            result = train(folder, number)
            session.wait_for_everyone()
            if session.is_main:
                folder.finish(result)
            session.wait_for_everyone()
    first = folders[0]
    if session.is_main:
        shutil.copytree(first.model, stage.model, dirs_exist_ok=True)
        shutil.copyfile(first.metrics, stage.metrics)
    results = [folder.result() for folder in folders]
    return results[0] | {
        "seconds": sum(result["seconds"] for result in results),
        "members": [{"held_out/accuracy": result.get("held_out/accuracy")} for result in results],
    }
