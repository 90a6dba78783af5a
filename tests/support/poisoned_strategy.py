"""A distribution strategy from outside the package, which imitates sharding in one process.

It stores the weights separately. Trained and frozen models hold NaN wherever the ``Strategy`` protocol does not promise
their weights, because a sharded model would hold only a part of them.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from plaudit.config.schema.distribution import StrategyConfig
from plaudit.models.collective_passes import register_collective_passes
from plaudit.parallel.gradients import clip_gradients
from plaudit.parallel.processes import Processes
from plaudit.parallel.saved_files import SavedFiles
from plaudit.parallel.state import load_optimizer_tensors, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item, Loaded, StrategyClass

DUMMIES = 1  # passes that are added to each reading


class PoisonedConfig(StrategyConfig):
    """The section of the strategy."""

    strategy: ClassVar[str] = "poisoned_strategy:PoisonedStrategy"
    several: ClassVar[bool] = False

    kind: Literal["poisoned"] = "poisoned"


class PoisonedStrategy:
    """Fills modules in ``gathered`` and during their own passes, and empties them afterwards or after the step."""

    optimizer: torch.optim.Optimizer
    repeatable = True

    def __init__(self, config: StrategyConfig, processes: Processes) -> None:
        self.kept: dict[nn.Parameter, Tensor] = {}
        self.roots: list[nn.Module] = []
        self.inside = False

    def load(self, load: Callable[[torch.device], Loaded]) -> Loaded:
        return load(torch.device("cpu"))

    def prepare(self, module: nn.Module) -> None:
        for root in module.children() if isinstance(module, nn.ModuleDict) else [module]:
            if not any(parameter in self.kept for parameter in root.parameters()):
                self.roots.append(root)
                self.kept |= {parameter: parameter.detach().clone() for parameter in root.parameters()}
                root.register_forward_pre_hook(lambda root, _: self._fill(root))
                root.register_forward_hook(lambda root, _, output: self._after_pass(root, output))
                for name in getattr(root, "forward_methods", ()):
                    setattr(root, name, self._as_pass(root, getattr(root, name)))
                register_collective_passes(root, lambda passes: DUMMIES)
                self._empty(root)

    def start(
        self, module: nn.Module, make_optimizer: Callable[[], torch.optim.Optimizer], max_gradient_norm: float | None
    ) -> None:
        self.prepare(module)
        self.parameters = trained_parameters(module)
        self.optimizer = make_optimizer()
        self.max_gradient_norm = max_gradient_norm

    def _as_pass(self, root: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any) -> Any:
            self._fill(root)
            return self._after_pass(root, method(*arguments))

        return call

    def _after_pass(self, root: nn.Module, output: Any) -> Any:
        if not torch.is_grad_enabled() and not self.inside:
            self._empty(root)
        return output

    def _fill(self, module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.data.copy_(self.kept[parameter])

    def _empty(self, module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.data.fill_(torch.nan)

    def _empty_all(self) -> None:
        for root in self.roots:
            self._empty(root)

    @contextmanager
    def gathered(self, module: nn.Module) -> Iterator[None]:
        assert not self.inside
        assert module in self.roots
        self.inside = True
        self._fill(module)
        yield
        self._empty(module)
        self.inside = False

    def gathered_in_main(self, module: nn.Module) -> AbstractContextManager[None]:
        return self.gathered(module)

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        return []

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def discard(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._empty_all()

    def step(self) -> Tensor:
        norm = clip_gradients(self.parameters.values(), self.max_gradient_norm)
        for root in self.roots:
            self._fill(root)
        self.optimizer.step()
        self.kept |= {parameter: parameter.detach().clone() for parameter in self.parameters.values()}
        self.discard()
        return norm

    def state(self) -> dict[str, dict[str, Tensor]]:
        kept = {name: self.kept[parameter] for name, parameter in self.parameters.items()}
        return {"kept": kept, "moments": optimizer_tensors(self.optimizer, self.parameters.items())}

    def load_state(self, files: SavedFiles) -> None:
        files.require(["kept", "moments"])
        kept = files.load("kept")
        self.kept |= {parameter: kept[name] for name, parameter in self.parameters.items()}
        load_optimizer_tensors(self.optimizer, self.parameters.items(), files.load("moments"))

    def close(self) -> None:
        self.kept, self.roots = {}, []


CLASS: StrategyClass = PoisonedStrategy
"""Lets the type checker compare the class with the protocol."""
