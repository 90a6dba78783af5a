"""Every process holds the whole model; gradients are summed over the processes once a step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import OptimizerConfig
from plaudit.runs.checkpoints import load_optimizer_tensors, optimizer_tensors
from plaudit.runs.session import Session
from plaudit.training.optimization import ParameterGroup, build_optimizer, clip_gradients, set_learning_rate


class ReplicatedStrategy:
    """Every process holds all gradients and the whole optimizer; the gradients are added up once a step."""

    file = "optimizer"

    def __init__(self, groups: Sequence[ParameterGroup], config: OptimizerConfig, session: Session) -> None:
        self.named_parameters = [named for group in groups for named in group.named_parameters]
        self.parameters = [parameter for _, parameter in self.named_parameters]
        self.optimizer = build_optimizer(groups, config)
        self.max_gradient_norm = config.max_gradient_norm
        self.session = session

    def dummy_trees(self, trees: Sequence[PromptTree], batches: int) -> list[PromptTree]:
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
