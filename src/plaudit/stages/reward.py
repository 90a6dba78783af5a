"""The stage ``reward``: trains a reward model, or an ensemble of them, on comparisons."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from plaudit.stages.training import TrainingStage

if TYPE_CHECKING:
    from plaudit.config.schema import RewardConfig
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import StageFiles
    from plaudit.runs.context import StageContext
    from plaudit.runs.lines import Lines
    from plaudit.training.task import Task


class RewardStage(TrainingStage["RewardConfig"]):
    """Trains a model to score responses in the order of their ranks."""

    name = "reward"
    title = "Reward model"
    help = "Train a reward model on pairs or rankings."
    example = "plaudit reward quickstart reward.loss=best_of_k"
    makes = "reward model"
    headline = ("held_out/accuracy", "held-out accuracy of the reward model")

    def section(self) -> "type[RewardConfig]":
        """Return the section."""
        from plaudit.config.schema import RewardConfig

        return RewardConfig

    def load_task(self, context: "StageContext[RewardConfig]") -> "Task[Any]":
        """Load the model and the comparisons."""
        from plaudit.training.reward import load_reward_task

        return load_reward_task(context)

    def check(self, config: "RewardConfig") -> None:
        """Import the loss."""
        from plaudit.algorithms.catalogue import reward_loss
        from plaudit.training.losses import load_loss

        load_loss(reward_loss(config.loss), "reward.loss")

    def run(self, context: "StageContext[RewardConfig]") -> "Lines[dict[str, Any]]":
        """Train the model, or all members of the ensemble that are not finished."""
        from plaudit.training.ensembles import combined, members

        if context.config.members == 1:
            return (yield from super().run(context))
        for number, member in enumerate(members(context, context.config.members), start=1):
            if not member.directory.finished:
                member.finish((yield from _train(member, number)))
        return combined(context, context.config.members)

    def panels(self, stage: "StageFiles", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return accuracy, loss, margin and calibration."""
        from plaudit.reporting.panels import reward_model_panels

        return reward_model_panels()


def _train(context: "StageContext[RewardConfig]", member: int) -> "Lines[dict[str, Any]]":
    """Train one member of an ensemble; ``member`` counts from 1."""
    from plaudit.training.loop import Trainer
    from plaudit.training.reward import load_reward_task

    with closing(load_reward_task(context, member)) as task:
        return dict((yield from Trainer(task).train()))


STAGE = RewardStage()
