"""Experiment trackers by name, as Accelerate provides them. Their keys come from the environment alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from plaudit.config.schema import Recipe, Section
from plaudit.errors import PlauditError

PROJECT = "plaudit"
EXTRAS = ("tensorboard", "wandb")


@contextmanager
def stage_trackers(accelerator: Any, recipe: Recipe, stage: str, folder: Path) -> Iterator[None]:
    """Let ``accelerator.log(values, step)`` reach the recipe's trackers while one stage runs.

    Each stage is a run of its own there, called NAME-STAGE, so that its steps count from 1. What a tracker writes
    locally lies in ``folder``. Raises ``PlauditError`` like ``check_trackers``.
    """
    check_trackers(recipe.trackers)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.trackers = []
    accelerator.log_with = [_tracker(name, f"{recipe.name}-{stage}", folder) for name in recipe.trackers]
    accelerator.init_trackers(PROJECT, config=scalars(recipe, stage) if recipe.trackers else None)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []


def check_trackers(names: Sequence[str]) -> None:
    """Raise ``PlauditError`` for a tracker that Accelerate does not know, or whose package is not installed."""
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
    """Return what the stage depends on under dotted keys, without the values that are not set.

    Trackers take single values only: a list of numbers or strings becomes one string.
    """
    shared = {key: value for key, value in recipe if not isinstance(value, Section)}
    section = getattr(recipe, stage).model_dump(mode="json")
    return dict(_flattened({**shared, stage: section}))


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


def _tracker(name: str, run_name: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return tracker(name, folder)
    if name == "wandb":
        return tracker(PROJECT, name=run_name, dir=str(folder))
    return tracker(run_name, folder) if tracker.requires_logging_directory else tracker(PROJECT)
