"""The distribution seam: what training asks of the way in which several processes train one model.

A ``Strategy`` takes over the parameters that learn, between the moment when a stage's models are loaded and the moment
when the trained one is saved. The rest of Plaudit may rely on the following, and on nothing else:

- *Loading.* Models are loaded, and copies of them are made (the frozen reference of reinforcement learning), before the
  strategy is built. They are whole in each process. The strategy may then replace the parameters of ``module`` by
  shards; models that do not learn are not given to it and stay whole.
- *Forward passes that learn* go through the submodules of ``module`` by calling them, so hooks on their forward passes
  see every one. ``module`` itself is called, or the modules that it consists of. They run between ``discard`` or
  ``step`` and the next ``step``.
- *Everything else that computes with the model or reads its weights* (generating, scoring, measuring, saving) happens
  in a ``gathered()`` block.
- *Checkpoints* hold what ``state`` returns and give it back by ``load_state``.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from plaudit.errors import PlauditError
from plaudit.parallel.processes import Processes
from plaudit.parallel.registry import STRATEGIES

Item = TypeVar("Item")


class OutOfMemoryElsewhereError(MemoryError):
    """Another process ran out of memory, so this one must not begin the backward pass that needs both."""


class Strategy(Protocol):
    """An optimizer over all processes. Every process calls the same methods in the same order."""

    optimizer: torch.optim.Optimizer
    """The optimizer of this process; its groups' learning rates are set from outside before each ``step``."""

    files: Sequence[str]
    """Names of the checkpoint's files that ``load_state`` needs in this process."""

    def gathered(self) -> AbstractContextManager[None]:
        """Return a context in which ``module`` holds its full, current weights in this process.

        It is entered by all processes together, and never inside another one. Nothing learns in it. What is written to
        the weights there is lost or kept, as the strategy likes.
        """
        ...

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return what this process must compute, with weight zero, after the ``batches`` it made of ``examples``.

        A strategy that exchanges something in each backward pass needs as many of them in every process.
        """
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` [] to the gradients of this step.

        Raises:
            OutOfMemoryElsewhereError: another process ran out of memory. Every process knows it then, and repeats the
                step with smaller micro-batches.
        """
        ...

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        ...

    def step(self) -> Tensor:
        """Sum the gradients over the processes, clip them, take an optimizer step and forget the gradients.

        Returns the 2-norm [] that the whole gradient had before it was clipped. Where that is not finite, training
        cannot go on: the weights may be the old ones or useless.
        """
        ...

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return what this process must write into a checkpoint: file -> name -> tensor, without copies.

        The files of all processes together hold the weights that learn and the optimizer's state. Each process names
        its own files, or none.
        """
        ...

    def load_state(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take back the ``files`` of a checkpoint, bit for bit."""
        ...

    def close(self) -> None:
        """Let go of the model, so that its memory is free for the next stage. Nothing is called afterwards."""
        ...


class StrategyFactory(Protocol):
    """Builds a strategy; it is called by all processes together."""

    def __call__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        max_gradient_norm: float | None,
        processes: Processes,
    ) -> Strategy:
        """Prepare ``module``, then make the optimizer.

        Args:
            module: all that learns, with its full weights.
            make_optimizer: makes an optimizer of the parameters that ``module`` has when it is called. Where the
                strategy replaces parameters, it calls this afterwards.
            max_gradient_norm: norm to which the whole gradient is clipped; None does not clip.
            processes: those that train together.
        """
        ...


def build_strategy(
    name: str,
    module: nn.Module,
    make_optimizer: Callable[[], torch.optim.Optimizer],
    max_gradient_norm: float | None,
    processes: Processes,
) -> Strategy:
    """Return the strategy registered as ``name``, over the parameters of ``module`` that require gradients."""
    path, _, attribute = STRATEGIES[name].factory.partition(":")
    factory: StrategyFactory = getattr(import_module(path), attribute)
    return factory(module, make_optimizer, max_gradient_norm, processes)


def check_strategy(name: str, processes: int) -> None:
    """Raise PlauditError where ``distributed=name`` does not suit the number of processes, or lacks its package."""
    entry = STRATEGIES[name]
    if processes > 1 and not entry.several:
        several = " or ".join(f"distributed={other}" for other in STRATEGIES if STRATEGIES[other].several)
        raise PlauditError(f"distributed: {processes} processes need {several}")
    if processes == 1 and entry.several:
        raise PlauditError(f"distributed: {name} needs several processes; set processes, or distributed=none")
    if entry.requirement is not None:
        _require(name, entry.requirement, entry.remedy)


def _require(name: str, requirement: str, remedy: str) -> None:
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        found = "none"
    if found == "none" or not wanted.specifier.contains(found, prereleases=True):
        raise PlauditError(f"distributed: {name} needs {requirement}, found {found}; install it with: {remedy}")
