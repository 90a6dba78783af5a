"""A distribution strategy from outside the package, which imitates sharding in one process.

It stores the weights separately. The model holds NaN wherever the ``Strategy`` protocol does not promise its weights,
because a sharded model would hold only a part of them. Register it in ``plaudit.registries.STRATEGIES``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.parallel.gradients import clip_gradients
from plaudit.parallel.processes import Processes
from plaudit.parallel.state import load_optimizer_tensors, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item, StrategyFactory


class PoisonedStrategy:
    """Fills the model in ``gathered()`` and before forward passes, and empties it after each step."""

    files: Sequence[str] = ("kept", "moments")

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        max_gradient_norm: float | None,
        processes: Processes,
    ) -> None:
        self.parameters = trained_parameters(module)
        self.kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.optimizer = make_optimizer()
        self.max_gradient_norm = max_gradient_norm
        self.hooks = [part.register_forward_pre_hook(self._before_forward) for part in module.modules()]
        self._fill(None)

    def _before_forward(self, module: nn.Module, arguments: Any) -> None:
        if not self.filled:
            # Outside of it, processes run different numbers of passes, so a sharded model would wait forever.
            assert torch.is_grad_enabled(), "a pass that does not learn, outside gathered()"
            self._fill(self.kept)

    def _fill(self, weights: Mapping[str, Tensor] | None) -> None:
        self.filled = weights is not None
        for name, parameter in self.parameters.items():
            parameter.data.copy_(torch.tensor(torch.nan) if weights is None else weights[name])

    @contextmanager
    def gathered(self) -> Iterator[None]:
        assert not self.filled
        self._fill(self.kept)
        yield
        self._fill(None)

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        return []

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def discard(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._fill(None)

    def step(self) -> Tensor:
        norm = clip_gradients(self.parameters.values(), self.max_gradient_norm)
        self._fill(self.kept)
        self.optimizer.step()
        self.kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.discard()
        return norm

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"kept": self.kept, "moments": optimizer_tensors(self.optimizer, self.parameters.items())}

    def load_state(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.kept = {name: tensors["kept"][name].clone() for name in self.parameters}
        load_optimizer_tensors(self.optimizer, self.parameters.items(), tensors["moments"])

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


FACTORY: StrategyFactory = PoisonedStrategy
"""Lets the type checker compare the class with the protocol."""
