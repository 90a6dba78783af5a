"""Training in one process."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from plaudit.parallel.gradients import clip_gradients
from plaudit.parallel.processes import Processes
from plaudit.parallel.state import load_optimizer_tensors, load_weights, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item


class SingleStrategy:
    """Trains without communication."""

    files: Sequence[str] = ("model", "optimizer")

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        max_gradient_norm: float | None,
        processes: Processes,
    ) -> None:
        self.parameters = trained_parameters(module)
        self.optimizer = make_optimizer()
        self.max_gradient_norm = max_gradient_norm
        self.processes = processes

    def gathered(self) -> AbstractContextManager[None]:
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

    def load_state(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore what ``state`` returned."""
        load_weights(self.parameters, tensors["model"])
        load_optimizer_tensors(self.optimizer, self.parameters.items(), tensors["optimizer"])

    def close(self) -> None:
        """Do nothing: only the optimizer refers to the model."""
