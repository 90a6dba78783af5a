"""The section about timings, data, environment and configuration."""

from collections.abc import Mapping
from typing import Any

from plaudit.registries.stages import STAGES
from plaudit.reporting.logs import is_number
from plaudit.reporting.numbers import ABSENT, file_size, significant
from plaudit.reporting.reading import Run

ENVIRONMENT = (
    "started",
    "seed",
    "device",
    "processes",
    "threads",
    "cpu",
    "python",
    "platform",
    "plaudit_revision",
    "git_revision",
)


def configuration(run: Run) -> Mapping[str, Any] | None:
    """What is needed to understand or repeat the run, as far as its folder contains it."""
    seconds = stage_seconds(run)
    longest = max(seconds.values(), default=0.0) or 1.0
    view = {
        "timings": [(_stage_title(name), value, value / longest) for name, value in seconds.items()],
        "environment": _environment(run.metadata),
        "files": _files(run.metadata.get("data") or {}),
        "notes": [(_stage_title(name), note) for name, stage in run.stages.items() for note in stage.notes],
        "config_text": run.config_text,
        "results": _results(run),
    }
    return {**view, "total_seconds": sum(seconds.values())} if any(view.values()) else None


def stage_seconds(run: Run) -> dict[str, float]:
    """Seconds that each stage took, from the metadata or else from the stage's own result."""
    recorded = run.metadata.get("stages") or {}
    found = {}
    for name, stage in run.stages.items():
        seconds = recorded.get(name, {}).get("seconds", stage.result.get("seconds"))
        if is_number(seconds):
            found[name] = float(seconds)
    return found


def _stage_title(name: str) -> str:
    return STAGES[name].title if name in STAGES else name


def _environment(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [(key.replace("_", " "), str(metadata[key])) for key in ENVIRONMENT if metadata.get(key) is not None]
    return pairs + [(package, str(version)) for package, version in (metadata.get("versions") or {}).items()]


def _files(files: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Path, size and checksum of each data file."""
    return [
        (
            path,
            file_size(facts["bytes"]) if is_number(facts.get("bytes")) else ABSENT,
            str(facts.get("sha256", ABSENT)),
        )
        for path, facts in files.items()
    ]


def _results(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """The numbers in each finished stage's result. Lists are left out: the page shows them as tables elsewhere."""
    found = []
    for name, stage in run.stages.items():
        pairs = [(key, _value(value)) for key, value in stage.result.items() if not isinstance(value, list)]
        if pairs:
            found.append((_stage_title(name), pairs))
    return found


def _value(value: object) -> str:
    if isinstance(value, float) and is_number(value):
        return significant(value)
    return str(value)
