"""Stages that go through the training loop, and the loop over one of them."""

from abc import abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.stages.base import Stage
from plaudit.stages.registry import STAGES

if TYPE_CHECKING:
    from plaudit.config.schema import StageConfig
    from plaudit.runs.context import StageContext
    from plaudit.runs.session import Session
    from plaudit.training.loop import Trainer
    from plaudit.training.task import Task

TrainingConfigT = TypeVar("TrainingConfigT", bound="StageConfig")


class TrainingStage(Stage[TrainingConfigT]):
    """A stage that goes through the training loop."""

    @abstractmethod
    def load_task(self, context: "StageContext[TrainingConfigT]") -> "Task[Any]":
        """Load models and data, and return what the loop trains."""

    def trainer(self, context: "StageContext[TrainingConfigT]") -> "Trainer[Any]":
        """Return the loop over the stage's task, before its first step."""
        from plaudit.training.loop import Trainer

        return Trainer(self.load_task(context))

    def run(self, context: "StageContext[TrainingConfigT]") -> dict[str, Any]:
        """Train, from the newest checkpoint if there is one; close the task, also after an error."""
        from plaudit.training.loop import Trainer

        with closing(self.load_task(context)) as task:
            return dict(Trainer(task).train())


def build_trainer(session: "Session", name: str) -> "Trainer[Any]":
    """Return the loop over a training stage of the session's recipe, before its first step."""
    from plaudit.runs.context import stage_context

    stage = STAGES[name]
    assert isinstance(stage, TrainingStage), f"{name} does not train"
    return stage.trainer(stage_context(session, name))
