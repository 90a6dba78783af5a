"""The interface between training and the way in which several processes train one model.

A ``Strategy`` manages the trainable parameters from the time when a stage's models are loaded until the trained model
is saved. Strategies and the rest of Plaudit may rely only on the following:

- *Loading.* Models are loaded and copied (for the frozen reference of reinforcement learning) before the strategy is
  built. Each process then holds complete models. The strategy may replace the parameters of ``module`` by shards;
  frozen models are not passed to it and stay complete.
- *Training forward passes* call ``module`` or its submodules, so that forward hooks see every pass. They run between
  ``discard`` or ``step`` and the next ``step``.
- *Everything else that computes with the model or reads its weights* (generating, scoring, measuring, saving) happens
  in a ``gathered()`` block.
- *Checkpoints* store what ``state`` returns and pass it to ``load_state``.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from plaudit.errors import PlauditError
from plaudit.packages import missing_package
from plaudit.parallel.processes import Processes
from plaudit.plugins import check_methods, import_function
from plaudit.registries.strategies import STRATEGIES

Item = TypeVar("Item")


class OutOfMemoryElsewhereError(MemoryError):
    """Another process ran out of memory, so this process must not begin a backward pass that needs both."""


class Strategy(Protocol):
    """An optimizer over all processes. Every process calls the same methods in the same order."""

    optimizer: torch.optim.Optimizer
    """The optimizer of this process; the training loop sets its groups' learning rates before each ``step``."""

    files: Sequence[str]
    """Names of the checkpoint's files that ``load_state`` needs in this process."""

    def gathered(self) -> AbstractContextManager[None]:
        """Return a context in which ``module`` holds its complete current weights in this process.

        All processes enter it together. It is never nested, and no training happens in it. Writes to the weights inside
        the context may be kept or lost.
        """
        ...

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return examples to compute with weight zero after the ``batches`` that this process made of ``examples``.

        A strategy that communicates in each backward pass needs the same number of backward passes in every process.
        """
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` [] to the gradients of this step.

        Raises:
            OutOfMemoryElsewhereError: another process ran out of memory. Every process is informed and repeats the step
                with smaller micro-batches.
        """
        ...

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        ...

    def step(self) -> Tensor:
        """Sum the gradients over the processes, clip them, take an optimizer step and forget the gradients.

        Returns the 2-norm [] of the whole gradient before clipping. If it is not finite, training must stop: the
        weights may be unchanged or useless.
        """
        ...

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return what this process must write into a checkpoint: file -> name -> tensor, without copies.

        The files of all processes together hold the trainable weights and the optimizer's state. File names must differ
        between processes; a process may return no files.
        """
        ...

    def load_state(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore exactly what the ``files`` of a checkpoint hold."""
        ...

    def close(self) -> None:
        """Release the model, so that its memory is free for the next stage. No method is called afterwards."""
        ...


class StrategyFactory(Protocol):
    """Builds a strategy; all processes call it together."""

    def __call__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        max_gradient_norm: float | None,
        processes: Processes,
    ) -> Strategy:
        """Prepare ``module``, then create the optimizer.

        Args:
            module: everything that is trained, with complete weights.
            make_optimizer: creates an optimizer over the parameters that ``module`` has at the time of the call. A
                strategy that replaces parameters must call it afterwards.
            max_gradient_norm: norm to which the whole gradient is clipped; None does not clip.
            processes: the processes that train together.
        """
        ...


def build_strategy(
    name: str,
    module: nn.Module,
    make_optimizer: Callable[[], torch.optim.Optimizer],
    max_gradient_norm: float | None,
    processes: Processes,
) -> Strategy:
    """Return the strategy registered as ``name``, over the parameters of ``module`` that require gradients.

    Raises PlauditError if it cannot be imported or lacks a method of ``Strategy``.
    """
    place = f"distributed: {name}"
    factory: StrategyFactory = import_function(STRATEGIES[name].factory, place)
    strategy = factory(module, make_optimizer, max_gradient_norm, processes)
    check_methods(strategy, Strategy, place)
    return strategy


def check_strategy(name: str, processes: int) -> None:
    """Raise PlauditError if ``distributed=name`` does not fit the number of processes or its package is missing."""
    entry = STRATEGIES[name]
    if processes > 1 and not entry.several:
        several = " or ".join(f"distributed={other}" for other in STRATEGIES if STRATEGIES[other].several)
        raise PlauditError(f"distributed: this run has {processes} processes; set {several}")
    if processes == 1 and entry.several:
        raise PlauditError(
            f"distributed: {name} needs several processes; set processes to at least 2, or distributed=none"
        )
    if entry.requirement is not None and (missing := missing_package(entry.requirement)):
        raise PlauditError(f"distributed: {name} {missing}; install it with: {entry.remedy}")
