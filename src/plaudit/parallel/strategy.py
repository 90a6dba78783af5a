"""How the gradients of all processes become one update of the weights.

The training loop calls ``backward`` for every micro-batch and ``step`` at the end; a ``Strategy`` decides what happens
between the processes. ``ReplicatedStrategy`` keeps all gradients and the whole optimizer in every process;
``Zero2Strategy`` keeps one shard of both in each.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import OptimizerConfig
from plaudit.runs.session import Session
from plaudit.training.optimization import ParameterGroup


class OutOfMemoryElsewhereError(MemoryError):
    """Another process ran out of memory, so this one must not begin the backward pass that needs both."""


class Strategy(Protocol):
    """What the loop needs of an optimizer over all processes."""

    optimizer: torch.optim.AdamW
    file: str

    def dummy_trees(self, trees: Sequence[PromptTree], batches: int) -> list[PromptTree]:
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


def build_strategy(
    module: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig, session: Session
) -> Strategy:
    """Return the update that ``distributed`` asks for, over the parameters in ``groups``."""
    if session.recipe.distributed == "zero2":
        from plaudit.parallel.zero2 import Zero2Strategy

        return Zero2Strategy(module, groups, config, session)
    from plaudit.parallel.replicated import ReplicatedStrategy

    return ReplicatedStrategy(groups, config, session)
