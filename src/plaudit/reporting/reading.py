"""Reads a run folder into plain data. Any file may be missing: the report shows what exists."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from plaudit.errors import PlauditError
from plaudit.files import read_json
from plaudit.registries.stages import STAGES
from plaudit.reporting.logs import Series, metric_series, shown_samples
from plaudit.runs.directory import RunDirectory, StageDirectory
from plaudit.runs.jsonl import iterate_steps
from plaudit.runs.manifest import MANIFEST, check_files

logger = logging.getLogger(__name__)

NO_VALUES = Series((), ())


@dataclass(frozen=True)
class StageFiles:
    """The files that one stage wrote."""

    name: str
    metrics: Mapping[str, Series] = field(default_factory=dict)
    samples: Sequence[Sequence[Mapping[str, Any]]] = ()
    """Some samples of each prompt that is shown."""
    result: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def series(self, metric: str) -> Series:
        """The values of a metric, without the steps that do not have it."""
        return self.metrics.get(metric, NO_VALUES)

    def metric_names(self, prefix: str) -> list[str]:
        """Metrics of the form ``prefix/NAME``, as NAME, in the order in which they first appear."""
        return [name.removeprefix(f"{prefix}/") for name in self.metrics if name.startswith(f"{prefix}/")]


@dataclass(frozen=True)
class Run:
    """A run folder."""

    name: str
    metadata: Mapping[str, Any]
    config: Mapping[str, Any]
    config_text: str
    stages: Mapping[str, StageFiles]
    summary: Mapping[str, Any]

    def stage(self, name: str) -> StageFiles:
        """The stage with this name; an empty one if the run does not have it."""
        return self.stages.get(name, StageFiles(name))

    @property
    def simulated(self) -> bool:
        """Whether texts and annotators were simulated by code."""
        return bool(self.summary.get("simulated", "world" in self.stages))

    @property
    def trained_on(self) -> list[str]:
        """The reward sources that reinforcement learning maximized. All others are independent judges."""
        return [name for name in self._scored_in_rl if name not in self.watched]

    @property
    def watched(self) -> list[str]:
        """The reward sources with weight 0: measured during reinforcement learning but not trained on."""
        sources = (self.config.get("rl") or {}).get("rewards") or []
        unweighted = {source.get("name") for source in sources if source.get("weight") == 0}
        return [name for name in self._scored_in_rl if name in unweighted]

    @property
    def _scored_in_rl(self) -> list[str]:
        return [name for name in self.stage("rl").metric_names("reward") if name not in ("mean", "std")]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        PlauditError: the folder is missing, or one of its files is damaged.
    """
    if not folder.is_dir():
        raise PlauditError(f"{folder}: no such run folder; name a folder that `plaudit run` wrote")
    directory = RunDirectory(folder)
    metadata = _read_object(directory.metadata)
    config_path = directory.configuration
    config_text = config_path.read_text(encoding="utf-8", errors="replace") if config_path.exists() else ""
    config = _parse_config(config_path, config_text)
    present = [directory.stage(name) for name in STAGES if directory.stage(name).folder.is_dir() and name != "report"]
    stages = {stage.name: _read_stage(stage) for stage in present}
    summary = _read_object(directory.stage("evaluate").summary_file)
    name = str(metadata.get("name") or config.get("name") or folder.resolve().name)
    return Run(name, metadata, config, config_text, stages, summary)


def _read_stage(directory: StageDirectory) -> StageFiles:
    _verify(directory)
    metrics, samples = metric_series(iterate_steps(directory.metrics)), shown_samples(directory.samples)
    notes = _read_object(directory.notes_file).get("notes", [])
    return StageFiles(directory.name, metrics, samples, _read_object(directory.result_file), list(map(str, notes)))


def _verify(directory: StageDirectory) -> None:
    """Raise PlauditError if a file that the report shows has changed since its stage finished."""
    manifest = directory.folder / MANIFEST
    if directory.finished and not manifest.exists():
        logger.warning("%s: missing, so the report shows numbers of %s that are not verified", manifest, directory.name)
    elif directory.finished:
        for path in (directory.metrics, directory.samples, directory.summary_file):
            check_files(directory.folder, path)
        directory.verify(directory.result_file, directory.notes_file)


def _read_object(path: Path) -> dict[str, Any]:
    return read_json(path, "restore or delete it") if path.exists() else {}


def _parse_config(path: Path, text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlauditError(f"{path}: not valid YAML; restore it from the recipe") from error
    if not isinstance(value, dict):
        raise PlauditError(f"{path}: expected a mapping of keys to values; restore it from the recipe")
    return value
