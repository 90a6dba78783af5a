"""Training in one process."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from plaudit.config.schema.distribution import StrategyConfig
from plaudit.parallel.gradients import clip_gradients
from plaudit.parallel.processes import Processes
from plaudit.parallel.saved_files import WEIGHT, SavedFiles
from plaudit.parallel.state import load_optimizer_tensors, load_weights, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item, Loaded


class SingleStrategy:
    """Trains without communication."""

    repeatable = True
    optimizer: torch.optim.Optimizer

    def __init__(self, config: StrategyConfig, processes: Processes) -> None:
        self.processes = processes
        self.parameters: dict[str, nn.Parameter] = {}
        self.max_gradient_norm: float | None = None

    def load(self, load: Callable[[torch.device], Loaded]) -> Loaded:
        """Load in every process, on its device."""
        return load(self.processes.device)

    def prepare(self, module: nn.Module) -> None:
        """Do nothing: every process keeps complete weights."""

    def start(
        self, module: nn.Module, make_optimizer: Callable[[], torch.optim.Optimizer], max_gradient_norm: float | None
    ) -> None:
        """Create the optimizer."""
        self.parameters = trained_parameters(module)
        self.optimizer = make_optimizer()
        self.max_gradient_norm = max_gradient_norm

    def gathered(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return an empty context: the weights are always complete."""
        return nullcontext()

    def gathered_in_main(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return an empty context: the weights are always complete."""
        return nullcontext()

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return none: backward passes do not communicate, so processes may run different numbers of them."""
        return []

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to the gradients of this step."""
        loss.backward()

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> Tensor:
        """Clip and take a step; if the norm is not finite, keep the weights."""
        norm = clip_gradients(self.parameters.values(), self.max_gradient_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.discard()
        return norm

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the trainable weights and the optimizer's state by parameter name."""
        return {
            "model": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "optimizer": optimizer_tensors(self.optimizer, self.parameters.items()),
        }

    def load_state(self, files: SavedFiles) -> None:
        """Restore what ``state`` returned, or what all processes of a strategy with sharded weights wrote."""
        load_weights(self.parameters, {name: files.rows(WEIGHT, name) for name in self.parameters})
        state = {
            f"{key}/{name}": files.rows(key, name) for name in self.parameters for key in files.optimizer_keys(name)
        }
        load_optimizer_tensors(self.optimizer, self.parameters.items(), state)

    def close(self) -> None:
        """Forget the optimizer."""
        self.parameters = {}
        del self.optimizer
