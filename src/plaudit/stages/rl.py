"""The stage ``rl``: trains a policy against a reward, by PPO, GRPO and others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.stages.training import TrainingStage

if TYPE_CHECKING:
    from plaudit.config.schema import DataConfig, GenerationConfig, RewardSourceConfig, RlConfig
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import StageFiles
    from plaudit.runs.context import StageContext
    from plaudit.training.task import Task


class RlStage(TrainingStage["RlConfig"]):
    """Trains a policy on rewards for its own samples."""

    name = "rl"
    title = "Reinforcement learning"
    help = "Train a policy against a reward, by PPO, GRPO and others."
    example = "plaudit rl quickstart rl.kl.coefficient=0.1"
    makes = "policy"
    headline = ("reward/mean", "reward in training")
    step_name = "iteration"

    def section(self) -> "type[RlConfig]":
        """Return the section."""
        from plaudit.config.schema import RlConfig

        return RlConfig

    def load_task(self, context: "StageContext[RlConfig]") -> "Task[Any]":
        """Load policy, reference, value function, reward and prompts."""
        from plaudit.training.rl.stage import load_rl_task

        return load_rl_task(context)

    def check(self, config: "RlConfig") -> None:
        """Import the loss and the advantage estimator."""
        from plaudit.algorithms.catalogue import advantage, policy_loss
        from plaudit.training.losses import load_estimator, load_loss

        load_loss(policy_loss(config.policy_loss), "rl.policy_loss")
        load_estimator(advantage(config.advantages), "rl.advantages")

    def panels(self, stage: "StageFiles", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return rewards, KL, entropy, losses and lengths."""
        from plaudit.reporting.panels import reinforcement_panels

        return reinforcement_panels(stage, config)

    def prompts(self, config: "RlConfig") -> "DataConfig":
        """Return the prompts."""
        return config.prompts

    def generation(self, config: "RlConfig") -> "GenerationConfig":
        """Return the rollout settings without engine, minimum and random lengths, which are used only in training."""
        from plaudit.config.schema import GenerationConfig

        only_in_training = {"engine": GenerationConfig().engine, "min_new_tokens": 0, "random_length": False}
        return config.generation.model_copy(update=only_in_training)

    def rewards(self, config: "RlConfig") -> "Sequence[RewardSourceConfig]":
        """Return the reward sources that the policy was trained on."""
        return config.rewards


STAGE = RlStage()
