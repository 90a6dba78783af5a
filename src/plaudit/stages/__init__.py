"""The stages of a run, one file each; ``registry.STAGES`` lists them in the order in which they run."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.stages.base import Stage
    from plaudit.stages.registry import STAGES
    from plaudit.stages.training import TrainingStage, build_trainer

__all__ = ["STAGES", "Stage", "TrainingStage", "build_trainer"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"base": ["Stage"], "registry": ["STAGES"], "training": ["TrainingStage", "build_trainer"]},
)
