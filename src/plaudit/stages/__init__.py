"""The stages of a run, one file each; ``plaudit.registries.STAGES`` lists them in the order in which they run."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.stages.base import Stage
    from plaudit.stages.training import TrainingStage, build_trainer

__all__ = ["Stage", "TrainingStage", "build_trainer"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"base": ["Stage"], "training": ["TrainingStage", "build_trainer"]},
)
