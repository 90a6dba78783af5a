"""One frozen base; policy and value are low-rank adapters on it, and the reference is the base without adapters.

If the policy continues a saved adapter, the reference is the base with a frozen copy of it.

The active adapter is a state of the base. The policy's adapter is active except inside ``using`` blocks and while the
reference computes. A backward pass that recomputes activations needs the adapter of its forward pass, so values are
differentiated inside their block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.adapters.lora import adapter_of, adapters_off, base_is_start
from plaudit.models.heads.log_probabilities import Extras
from plaudit.models.heads.policy import PolicyModule, PolicyOutput
from plaudit.models.heads.scalar import scalar_head
from plaudit.models.loading.models import load_policy
from plaudit.models.trunk import unwrapped
from plaudit.seeding import derived_seed
from plaudit.training.rl.roles.base import learning_names

POLICY, VALUE, REFERENCE = "default", "value", "reference"


class AdapterPolicy(PolicyModule):
    """The base with its active adapter, which need not be the policy's."""

    forward_methods = ("states",)

    def states(self, batch: Batch, positions: Tensor) -> Tensor:
        """Return the last hidden states [n, hidden] at flat ``positions`` [n]."""
        return hidden_states(self.model, batch, positions)


class AdapterRoles:
    """Policy and value as adapters on one base; frozen adapters can be added for rewards."""

    def __init__(self, config: ModelConfig, needs_values: bool, device: torch.device, seed: int) -> None:
        import peft

        adapter = config.lora or LoraConfig()
        self.loaded = load_policy(config.model_copy(update={"lora": adapter}), device, seed)
        self.model: Any = self.loaded.model
        self.base = AdapterPolicy(self.model)
        self.module: nn.ModuleDict = nn.ModuleDict({"policy": self.base})
        self.value_head: nn.Linear | None = None
        if needs_values:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(seed, "value adapter"))
                self.model.add_adapter(VALUE, self.model.peft_config[POLICY])
            self.value_head = scalar_head(unwrapped(self.model).config.hidden_size).to(device)
            self.module["value_head"] = self.value_head
        self._switch_to(POLICY)
        self.reference_is_base = base_is_start(self.model)
        if not self.reference_is_base:
            start = peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
            self.add_frozen(REFERENCE, self.model.peft_config[POLICY], start)

    def value_parameters(self) -> list[str]:
        """Return the names of the value adapter's and value head's weights."""
        names = learning_names(self.module)
        return [name for name in names if adapter_of(name) == VALUE or name.startswith("value_head.")]

    def frozen_modules(self) -> list[nn.Module]:
        """Return none: the frozen base is part of the policy."""
        return []

    def modules_used(self, policy: bool) -> nn.Module:
        """Return the common base."""
        return self.module

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        """Return the policy's statistics of the response tokens [N]."""
        output: PolicyOutput = self.base(batch, temperature, extras)
        return output

    @contextmanager
    def values(self, batch: Batch) -> Iterator[Tensor | None]:
        """Yield the values [N] with the value adapter active; None without a value function."""
        if self.value_head is None:
            yield None
            return
        with self.using(VALUE):
            yield self.value_head(self.base.states(batch, batch.predictor_index)).squeeze(-1).float()

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the log-probabilities [N] of the base without adapters, or with the continued one as it was saved."""
        with torch.no_grad(), adapters_off(self.model) if self.reference_is_base else self.using(REFERENCE):
            return self.policy(batch, temperature).statistics.log_probabilities

    @contextmanager
    def using(self, adapter: str) -> Iterator[None]:
        """Activate another adapter inside the block; afterwards the policy's is active again."""
        self._switch_to(adapter)
        try:
            yield
        finally:
            self._switch_to(POLICY)

    def add_frozen(self, adapter: str, peft_config: Any, tensors: dict[str, Tensor]) -> bool:
        """Add a frozen adapter with the given weights; return whether these are exactly its weights."""
        import peft

        # New adapters draw initial weights, which are overwritten, from the global generator: restore its state.
        with torch.random.fork_rng(devices=[]):
            self.model.add_adapter(adapter, peft_config)
        wanted = sum(adapter_of(name) == adapter for name, _ in self.model.named_parameters())
        unexpected = peft.set_peft_model_state_dict(self.model, tensors, adapter).unexpected_keys
        self.model.eval()
        self._switch_to(POLICY)
        return not unexpected and wanted == len(tensors)

    def _switch_to(self, adapter: str) -> None:
        """Switch adapters and keep policy and value trainable, because peft freezes inactive adapters."""
        self.model.set_adapter(adapter)
        for name, parameter in self.model.named_parameters():
            if (owner := adapter_of(name)) is not None:
                parameter.requires_grad_(owner in (POLICY, VALUE))
