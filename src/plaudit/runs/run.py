"""The results of a run, as Python objects."""

import os
from pathlib import Path
from typing import Any

from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES
from plaudit.runs.directory import RunDirectory, StageDirectory
from plaudit.runs.jsonl import read_json_lines


class Run(os.PathLike[str]):
    """A run's folder and what is in it. ``Path(run)`` is the folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, finished: {', '.join(self.finished) or 'nothing'})"

    @property
    def finished(self) -> list[str]:
        """Names of the finished stages, in the order in which they run."""
        return [name for name in STAGES if self._directory(name).finished]

    def model(self, stage: str | None = None) -> Path:
        """Return the folder of a stage's model, which transformers loads; by default the newest model.

        Raises:
            PlauditError: the stage has not finished, or it trains no model.
        """
        models = {name: self._directory(name).model for name in self.finished if self._directory(name).model.is_dir()}
        stage = stage or next(reversed(models), None)
        if stage is None or stage not in models:
            raise PlauditError(
                f"{self.folder}: there is no model of {stage or 'any stage'}; stages with a model: "
                f"{', '.join(models) or 'none'}"
            )
        return models[stage]

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``, one dictionary with ``step`` and ``seconds`` each; empty without."""
        file = self._directory(stage).metrics
        return list(read_json_lines(file)) if file.exists() else []

    def result(self, stage: str) -> dict[str, Any]:
        """Return the closing numbers of a stage. Raises PlauditError if it has not finished."""
        if stage not in self.finished:
            raise PlauditError(
                f"{self.folder}: {stage} has not finished; run it first (finished: "
                f"{', '.join(self.finished) or 'none'})"
            )
        return self._directory(stage).result()

    def summary(self) -> dict[str, Any]:
        """Return the comparison of models that the stage evaluate wrote. Raises PlauditError if it has not finished."""
        self.result("evaluate")
        return self._directory("evaluate").summary()

    def _directory(self, stage: str) -> StageDirectory:
        return RunDirectory(self.folder).stage(stage)
