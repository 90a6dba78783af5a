"""The stage ``dpo``: trains a policy on comparisons or labels, without a reward model."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from plaudit.stages.training import TrainingStage

if TYPE_CHECKING:
    from plaudit.config.schema import DataConfig, DpoConfig
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import StageFiles
    from plaudit.runs.context import StageContext
    from plaudit.training.task import Task


class DpoStage(TrainingStage["DpoConfig"]):
    """Trains a policy to prefer the responses that the data prefers."""

    name = "dpo"
    title = "Direct preference optimization"
    help = "Train a policy on comparisons or labels, without a reward model."
    example = "plaudit dpo mine.yaml dpo.loss=simpo"
    makes = "policy"
    headline = ("held_out/accuracy", "held-out accuracy of the implicit rewards")

    def section(self) -> "type[DpoConfig]":
        """Return the section."""
        from plaudit.config.schema import DpoConfig

        return DpoConfig

    def load_task(self, context: "StageContext[DpoConfig]") -> "Task[Any]":
        """Load the policy, the data and the reference's log-probabilities."""
        from plaudit.training.dpo import load_dpo_task

        return load_dpo_task(context)

    def check(self, config: "DpoConfig") -> None:
        """Import the loss."""
        from plaudit.algorithms.catalogue import preference_loss
        from plaudit.training.losses import load_loss

        load_loss(preference_loss(config.loss), "dpo.loss")

    def panels(self, stage: "StageFiles", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return accuracy, loss, implicit rewards and drift."""
        from plaudit.reporting.panels import preference_panels

        return preference_panels()

    def prompts(self, config: "DpoConfig") -> "DataConfig":
        """Return the comparison data."""
        return config.data


STAGE = DpoStage()
