"""What supervised stages have in common: epochs over a dataset, a line of metrics for every step."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import SupervisedStageConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.forward import recompute_activations
from plaudit.models.loading.models import LoadedModel
from plaudit.runs.context import StageContext
from plaudit.training.examples import Order
from plaudit.training.metric_sums import MetricSums
from plaudit.training.token_budget import TokenBudget


class SupervisedTask:
    """Goes over ``train`` in epochs; a subclass says what is learned and measured."""

    module: nn.Module

    def __init__(
        self,
        context: StageContext[SupervisedStageConfig],
        loaded: LoadedModel,
        train: list[PromptTree],
        held_out: list[PromptTree],
    ) -> None:
        if not train:
            raise PlauditError(f"{context.name}: no row to learn from; look at the sources with `plaudit data inspect`")
        config = context.config
        self.context, self.session = context, context.session
        self.loaded, self.layout = loaded, loaded.layout
        self.train, self.held_out = train, held_out
        self.evaluate_every = config.evaluate_every
        self.budget = TokenBudget(config.token_budget)
        self.order = Order(len(train), config.batch_size, (context.seed, context.name))
        epochs = math.ceil(config.epochs * self.order.steps_per_epoch)
        self.steps = epochs if config.max_steps is None else min(epochs, config.max_steps)
        self.units = 0
        if config.gradient_checkpointing:
            recompute_activations(loaded.model)

    def learning_rates(self) -> dict[str, float]:
        """All parameters learn at one rate."""
        return {}

    def begin_step(self, step: int) -> Sequence[PromptTree]:
        """Return this process's share of the step's batch, and count the units of the whole batch."""
        trees = [self.train[index] for index in self.order.batch(step)]
        self.units = max(sum(self.units_of(tree) for tree in trees), 1)
        return self.session.shard(trees)

    def units_of(self, tree: PromptTree) -> int:
        """Return how many units of the loss a tree has."""
        raise TypeError("a supervised task counts its own units")

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Every step has its line."""
        return sums.means()

    def line_number(self, step: int) -> int:
        """Lines count optimizer steps."""
        return step

    def measures_at(self, step: int) -> bool:
        """Measure at regular steps and at the end."""
        return step % self.evaluate_every == 0 or step == self.steps

    def is_finished(self) -> bool:
        """Supervised stages run to their last step."""
        return False

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The step alone decides what comes next."""
        return {}, {}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Nothing to take back."""
