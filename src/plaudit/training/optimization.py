"""The optimizer and its learning-rate schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from plaudit.config.schema import OptimizerConfig


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with their names, and their common peak learning rate."""

    named_parameters: Sequence[tuple[str, torch.nn.Parameter]]
    learning_rate: float


def build_optimizer(groups: Sequence[ParameterGroup], config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019) over the parameters that require gradients.

    Weight decay applies only to tensors with two or more dimensions, including embeddings, not to biases and norm
    scales. Every torch group stores its peak learning rate as ``initial_lr``.
    """
    torch_groups = []
    for group in groups:
        trained = [parameter for _, parameter in group.named_parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim >= 2]
        others = [parameter for parameter in trained if parameter.ndim < 2]
        for parameters, decay in ((matrices, config.weight_decay), (others, 0.0)):
            if parameters:
                peak = {"lr": group.learning_rate, "initial_lr": group.learning_rate}
                torch_groups.append({"params": parameters, "weight_decay": decay, **peak})
    return torch.optim.AdamW(torch_groups, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True)


def learning_rate_factor(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Return the fraction of the peak learning rate at ``step``, which counts from 0.

    With W = round(warmup_fraction · total_steps), the factor is (step + 1) / (W + 1) before step W, and 1 at step W.
    From there to the last step, total_steps - 1, it falls to ``final_fraction`` linearly or as half a cosine, or stays
    at 1.
    """
    warmup_steps = round(config.warmup_fraction * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if config.schedule == "constant":
        return 1.0
    progress = min((step - warmup_steps) / max(total_steps - 1 - warmup_steps, 1), 1.0)
    remaining = 1 - progress if config.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.final_fraction + (1 - config.final_fraction) * remaining


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each group to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["initial_lr"]
