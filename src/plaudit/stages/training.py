"""The base class of stages that use the training loop."""

from abc import abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.registries.stages import STAGES
from plaudit.stages.base import Stage

if TYPE_CHECKING:
    from plaudit.config.schema import StageConfig
    from plaudit.runs.context import StageContext
    from plaudit.runs.lines import Lines
    from plaudit.runs.session import Session
    from plaudit.training.loop import Trainer
    from plaudit.training.task import Task

TrainingConfigT = TypeVar("TrainingConfigT", bound="StageConfig")


class TrainingStage(Stage[TrainingConfigT]):
    """A stage that uses the training loop."""

    files = ("reference.safetensors",)

    @abstractmethod
    def load_task(self, context: "StageContext[TrainingConfigT]") -> "Task[Any]":
        """Load models and data, and return the task for the loop."""

    def trainer(self, context: "StageContext[TrainingConfigT]") -> "Trainer[Any]":
        """Return a trainer for the stage's task, before its first step."""
        from plaudit.training.loop import Trainer

        return Trainer(self.load_task(context))

    def run(self, context: "StageContext[TrainingConfigT]") -> "Lines[dict[str, Any]]":
        """Train, starting from the newest checkpoint if there is one, and close the task."""
        from plaudit.training.loop import Trainer

        with closing(self.load_task(context)) as task:
            return dict((yield from Trainer(task).train()))


def build_trainer(session: "Session", name: str) -> "Trainer[Any]":
    """Return a trainer for a training stage of the session's recipe, before its first step."""
    from plaudit.runs.context import stage_context

    stage = STAGES[name]
    assert isinstance(stage, TrainingStage), f"{name} does not train"
    return stage.trainer(stage_context(session, name))
