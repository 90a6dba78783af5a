"""Experiment trackers by name, through Accelerate. Their API keys come only from the environment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from plaudit.config.schema import Recipe, Section
from plaudit.config.secrets import mask_addresses
from plaudit.errors import PlauditError
from plaudit.runs.directory import TRACKERS, StageDirectory

PROJECT = "plaudit"
EXTRAS = ("tensorboard", "wandb")


class StageTrackers:
    """The trackers of one stage."""

    def __init__(self, trackers: Sequence[Any]) -> None:
        self._trackers = trackers

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step with every tracker."""
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)


@contextmanager
def stage_trackers(recipe: Recipe, directory: StageDirectory) -> Iterator[StageTrackers]:
    """Yield the recipe's trackers for the duration of a stage. Only the main process calls this.

    Each stage, or member of its ensemble, is a separate tracker run named NAME-STAGE or NAME-STAGE-member-N, so that
    its steps count from 1. Local files of the trackers are written to ``trackers`` in its folder. Raises
    ``PlauditError`` like ``check_trackers``.
    """
    check_trackers(recipe.trackers)
    stage = directory.stage
    run_name = "-".join((recipe.name, *dict.fromkeys((stage, directory.name))))
    folder = directory.folder / TRACKERS
    folder.mkdir(parents=True, exist_ok=True)
    trackers = [_started(name, run_name, folder, scalars(recipe, stage)) for name in recipe.trackers]
    try:
        yield StageTrackers(trackers)
    finally:
        for tracker in trackers:
            tracker.finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raise ``PlauditError`` for a tracker that Accelerate does not know or whose package is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            near = get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}"
            raise PlauditError(f"trackers: {name}: unknown; {hint}")
        if name not in available:
            package = f"'{PROJECT}[{name}]'" if name in EXTRAS else name
            raise PlauditError(f"trackers: {name}: not installed; run: pip install {package}")


def scalars(recipe: Recipe, stage: str) -> dict[str, str | int | float | bool]:
    """Return the configuration of a stage under dotted keys, without unset values.

    Trackers accept only single values: a list of numbers or strings becomes one string.
    """
    shared = {key: value for key, value in recipe if not isinstance(value, Section)}
    section = recipe.sections()[stage].model_dump(mode="json")
    return dict(_flattened(mask_addresses({**shared, stage: section})))


def _flattened(value: Any, key: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flattened(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _flattened(inner, f"{key}.{index}")
    elif isinstance(value, list):
        yield key, ", ".join(str(inner) for inner in value)
    elif value is not None:
        yield key, value


def _started(name: str, run_name: str, folder: Path, configuration: Mapping[str, Any]) -> Any:
    from accelerate import PartialState

    PartialState(cpu=True)  # Accelerate's trackers use its logger, which requires this state
    tracker = _tracker(name, run_name, folder)
    tracker.start()
    tracker.store_init_configuration(dict(configuration))
    return tracker


def _tracker(name: str, run_name: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return tracker(name, folder)
    if name == "wandb":
        return tracker(PROJECT, name=run_name, dir=str(folder))
    return tracker(run_name, folder) if tracker.requires_logging_directory else tracker(PROJECT)
