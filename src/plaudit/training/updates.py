"""How the gradients of all processes become one update of the weights.

The loop adds up gradients by ``backward`` and ends a step with ``step``; what lies between is the business of an
``Update``. ``ReplicatedUpdate`` keeps all of gradients and optimizer in every process; ``zero2.ShardedUpdate`` keeps a
share of both in each.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import OptimizerConfig
from plaudit.training.checkpoints import load_optimizer_tensors, optimizer_tensors
from plaudit.training.optimization import ParameterGroup, build_optimizer, clip_gradients, set_learning_rate
from plaudit.training.session import Session


class OutOfMemoryElsewhereError(MemoryError):
    """Another process ran out of memory, so this one must not begin the backward pass that needs both."""


class Update(Protocol):
    """What the loop needs of an optimizer over all processes."""

    optimizer: torch.optim.AdamW
    file: str

    def stand_ins(self, trees: Sequence[PromptTree], batches: int) -> list[PromptTree]:
        """Return trees that this process must compute, with weight zero, after the ``batches`` it made of ``trees``."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to what this step has.

        May raise OutOfMemoryElsewhereError: every process knows then, and begins the step again.
        """
        ...

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        ...

    def step(self, factor: float) -> Tensor:
        """Take an optimizer step at ``factor`` times the peak learning rates; return the norm of the whole gradient.

        A norm that is not finite is not to be gone on from: the weights may be the old ones or useless.
        """
        ...

    def files(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that this process must save; to go on, it needs those of ``file``."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what was saved in ``file``, after the weights have been restored."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


class ReplicatedUpdate:
    """Every process holds all gradients and the whole optimizer; the gradients are added up once a step."""

    file = "optimizer"

    def __init__(self, groups: Sequence[ParameterGroup], config: OptimizerConfig, session: Session) -> None:
        self.named_parameters = [named for group in groups for named in group.named_parameters]
        self.parameters = [parameter for _, parameter in self.named_parameters]
        self.optimizer = build_optimizer(groups, config)
        self.max_gradient_norm = config.max_gradient_norm
        self.session = session

    def stand_ins(self, trees: Sequence[PromptTree], batches: int) -> list[PromptTree]:
        """No process waits for another before the step's end, so each has as many micro-batches as it likes."""
        return []

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to what this step has."""
        loss.backward()

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, factor: float) -> Tensor:
        """Add up the processes' gradients, clip and step; a norm that is not finite leaves the weights alone."""
        self.session.sum_gradients(self.parameters)
        norm = clip_gradients(self.parameters, self.max_gradient_norm)
        if torch.isfinite(norm):
            set_learning_rate(self.optimizer, factor)
            self.optimizer.step()
            self.discard()
        return norm

    def files(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimizer's state by parameter names, once for all processes."""
        return {self.file: optimizer_tensors(self.optimizer, self.named_parameters)} if self.session.is_main else {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what was saved in ``file``."""
        load_optimizer_tensors(self.optimizer, self.named_parameters, tensors)

    def close(self) -> None:
        """Nothing holds the model but the optimizer."""


def build_update(
    module: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig, session: Session
) -> Update:
    """Return the update that ``distributed`` asks for, over the parameters in ``groups``."""
    if session.recipe.distributed == "zero2":
        from plaudit.training.zero2 import ShardedUpdate

        return ShardedUpdate(module, groups, config, session)
    return ReplicatedUpdate(groups, config, session)
