"""The interface between training and the way in which several processes train one model.

A stage has one ``Strategy``. It manages the weights of the stage's models from the time when they are loaded until the
trained model is saved. Strategies and the rest of Plaudit may rely only on the following:

- *Loading.* ``load`` calls a function that loads, changes and copies models, and decides which processes hold their
  weights. Then each model is passed to ``prepare``, frozen or not, and is not copied or given parameters afterwards.
  ``prepare`` may replace parameters by shards, so the optimizer is created in ``start``, after it.
- *Passes*, with or without gradients, call the modules that were passed to ``prepare`` (of an ``nn.ModuleDict`` or
  ``nn.ModuleList`` its entries), or one of the methods in their ``forward_methods``, never a module inside them.
  Training passes run between ``discard`` or ``step`` and the next ``step``. Numbers of passes without gradients are
  made equal in all processes for modules of ``plaudit.models.collective_passes``.
- *Everything else that reads weights* happens in a ``gathered`` block (generating in this process), or in the main
  process in a ``gathered_in_main`` block (saving, passing weights to an engine outside of this process).
- *Checkpoints* store what ``state`` returns and pass it to ``load_state``.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from plaudit.config.schema.distribution import STRATEGIES, StrategyConfig
from plaudit.errors import PlauditError
from plaudit.packages import missing_package
from plaudit.parallel.processes import Processes
from plaudit.parallel.saved_files import SavedFiles
from plaudit.plugins import check_methods, import_object

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


class OutOfMemoryElsewhereError(MemoryError):
    """Another process ran out of memory, so this process must not begin a backward pass that needs both."""


class Strategy(Protocol):
    """Weights and an optimizer over all processes. Every process calls the same methods in the same order."""

    optimizer: torch.optim.Optimizer
    """The optimizer of this process; the training loop sets its groups' learning rates before each ``step``."""

    repeatable: bool
    """Whether a process that ran out of memory in a forward pass can repeat the step with smaller micro-batches.

    If forward passes exchange weights, the other processes wait for the failed pass, and the run must end.
    """

    def load(self, load: Callable[[torch.device], Loaded]) -> Loaded:
        """Return the models that ``load`` returns for a device, in every process.

        Between this and ``prepare`` only the main process is sure to hold values of the parameters. A strategy may call
        ``load`` in the main process alone, so what it returns must be such that it can be pickled.

        Raises the error of ``load`` in every process.
        """
        ...

    def prepare(self, module: nn.Module) -> None:
        """Distribute the weights of ``module``, whose values are those in the main process.

        A module that is prepared, or contains a prepared module, stays as it is.
        """
        ...

    def start(
        self,
        module: nn.Module,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        max_gradient_norm: float | None,
    ) -> None:
        """Prepare ``module``, everything that is trained, and create its optimizer; called once.

        Args:
            module: holds all trained parameters, and may hold frozen ones.
            make_optimizer: creates an optimizer over the parameters that ``module`` has at the time of the call. A
                strategy that replaces parameters must call it afterwards.
            max_gradient_norm: norm to which the whole gradient is clipped; None does not clip.
        """
        ...

    def gathered(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a prepared ``module`` holds its complete current weights in this process.

        All processes enter it together. It is never nested, and no training happens in it. Writes to the weights inside
        the context may be kept or lost.
        """
        ...

    def gathered_in_main(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a prepared ``module`` holds its complete current weights in the main process.

        They may be in the memory of the CPU, so that no device needs room for them; the main process may compute with
        them. All processes enter it together, and it is never nested.
        """
        ...

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return examples to compute with weight zero after the ``batches`` that this process made of ``examples``.

        A strategy that communicates in each pass needs the same number of passes in every process.
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

    def load_state(self, files: SavedFiles) -> None:
        """Restore exactly what the processes wrote into the ``files`` of a checkpoint.

        Raises PlauditError if this strategy, or this number of processes, cannot read them.
        """
        ...

    def close(self) -> None:
        """Release the models, so that their memory is free for the next stage. No method is called afterwards."""
        ...


class StrategyClass(Protocol):
    """The class of a strategy, which its configuration section names; all processes call it together."""

    def __call__(self, config: Any, processes: Processes) -> Strategy:
        """Return a strategy that does not manage any model yet, for a section and the processes of the run."""
        ...


def build_strategy(config: StrategyConfig, processes: Processes) -> Strategy:
    """Return the strategy that a configuration section names.

    Raises PlauditError if it cannot be imported or lacks a method of ``Strategy``.
    """
    place = f"distributed: {config.kind}"
    strategy_class: StrategyClass = import_object(config.strategy, place)
    strategy = strategy_class(config, processes)
    check_methods(strategy, Strategy, place)
    return strategy


def check_strategy(config: StrategyConfig, processes: int) -> None:
    """Raise PlauditError if a strategy does not fit the number of processes or its package is missing."""
    if processes > 1 and not config.several:
        several = " or ".join(f"distributed={name}" for name in STRATEGIES if STRATEGIES[name].several)
        raise PlauditError(f"distributed: this run has {processes} processes; set {several}")
    if processes == 1 and config.several:
        raise PlauditError(
            f"distributed: {config.kind} needs several processes; set processes to at least 2, or distributed=none"
        )
    if config.requirement is not None and (missing := missing_package(config.requirement)):
        raise PlauditError(f"distributed: {config.kind} {missing}; install it with: {config.remedy}")
