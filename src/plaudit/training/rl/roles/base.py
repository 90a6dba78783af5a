"""The interface of the roles, and a base class for policies that are separate models."""

import copy
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.adapters.lora import adapters_off, base_is_start
from plaudit.models.heads.log_probabilities import Extras
from plaudit.models.heads.policy import PolicyModule, PolicyOutput
from plaudit.models.loading.models import LoadedModel

if TYPE_CHECKING:
    pass


class Roles(Protocol):
    """Policy, reference and value, with shared or separate weights.

    Outside a ``values`` block ``loaded.model`` is the policy: it can generate, be trained and be saved.
    """

    loaded: LoadedModel

    @property
    def module(self) -> nn.ModuleDict:
        """All trainable weights, by role. The policy is ``policy``."""
        ...

    def frozen_modules(self) -> list[nn.Module]:
        """Return the modules with weights that are not in ``module``."""
        ...

    def value_parameters(self) -> list[str]:
        """Return the names in ``module`` of the trainable weights that belong only to the value function."""
        ...

    def modules_used(self, policy: bool) -> nn.Module:
        """Return the modules that compute a batch: the reference and, with ``policy``, policy and values."""
        ...

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        """Return the policy's statistics of the response tokens [N], and values [N] if the policy computes them."""
        ...

    def values(self, batch: Batch) -> AbstractContextManager[Tensor | None]:
        """Yield the values [N] of a separate value function; None if there is none or ``policy`` returns the values.

        Differentiate them inside the block, because recomputed activations need the weights that are active there.
        """
        ...

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the reference's log-probabilities of the response tokens [N], without gradient."""
        ...


class PolicyWithReference:
    """A policy and its frozen reference: the model before training, or the model without its new adapters."""

    module: nn.ModuleDict

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.frozen_reference = (
            None
            if base_is_start(loaded.model)
            else PolicyModule(copy.deepcopy(loaded.model).eval().requires_grad_(False))
        )

    def frozen_modules(self) -> list[nn.Module]:
        """Return the frozen reference; nothing if the reference is the policy without its adapters."""
        return [] if self.frozen_reference is None else [self.frozen_reference]

    def modules_used(self, policy: bool) -> nn.Module:
        """Return the reference and, with ``policy``, all trainable modules."""
        reference = self.module["policy"] if self.frozen_reference is None else self.frozen_reference
        return nn.ModuleList([reference, self.module] if policy else [reference])

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        """Return the policy's statistics of the response tokens [N], and values [N] if the policy computes them."""
        output: PolicyOutput = self.module["policy"](batch, temperature, extras)
        return output

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the log-probabilities [N] of the frozen copy, or of the policy without its adapters."""
        with torch.no_grad():
            if self.frozen_reference is not None:
                output: PolicyOutput = self.frozen_reference(batch, temperature)
                return output.statistics.log_probabilities
            with adapters_off(self.loaded.model):
                return self.policy(batch, temperature).statistics.log_probabilities


def learning_names(module: nn.Module) -> list[str]:
    """Return the names of the trainable parameters."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
