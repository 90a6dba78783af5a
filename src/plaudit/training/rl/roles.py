"""The roles of reinforcement learning (policy, reference, value) and how they share weights.

``separate``: a model each; the reference of a policy with adapters is that policy with its adapters off.
``shared``: a value head on the policy's trunk.
``adapters``: one frozen base; policy and value (and the reward, see ``adapter_reward``) are low-rank adapters on it,
and the reference is the base with adapters off.

The caller differentiates what one method returned before it calls the next: switching adapters in between would change
the weights that the backward pass sees.
"""

import copy
import re
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from plaudit.algorithms.catalogue import ADVANTAGES
from plaudit.batching.batches import Batch
from plaudit.config.schema import LoraConfig, ModelConfig, RlConfig
from plaudit.models.acceleration.forward import hidden_states, recompute_activations
from plaudit.models.adapters.lora import adapters_off
from plaudit.models.heads.log_probabilities import Extras
from plaudit.models.heads.policy import PolicyModule, PolicyOutput
from plaudit.models.heads.scalar import ValueModule, scalar_head
from plaudit.models.loading.models import LoadedModel, load_policy, load_scorer
from plaudit.models.reward_model import read_scale, refuse_untrained_head
from plaudit.models.trunk import unwrapped
from plaudit.seeding import derived_seed


class Roles(Protocol):
    """Policy, reference and value, whatever they share."""

    loaded: LoadedModel

    @property
    def module(self) -> nn.ModuleDict:
        """Every weight that learns, by role."""
        ...

    def value_parameters(self) -> list[str]:
        """Return the names in ``module`` of the weights that learn and belong to the value function alone."""
        ...

    def asked(self, policy: bool) -> nn.Module:
        """Return the models that a batch runs through: the reference, and policy and values if they are requested."""
        ...

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        """Return the policy's statistics of the response tokens, and values if they come with them."""
        ...

    def values(self, batch: Batch) -> Tensor | None:
        """Return values [N] of a separate value model; None if they come with the policy or not at all."""
        ...

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the reference's log-probabilities of the response tokens [N], without gradient."""
        ...

    def activate_policy(self) -> None:
        """Make ``loaded.model`` the policy, for generation."""
        ...


def build_roles(config: RlConfig, device: torch.device, seed: int) -> Roles:
    """Load what the configuration's arrangement needs; values only for advantages that use them."""
    needs_values = config.objective == "policy_gradient" and ADVANTAGES[config.advantages].uses_values
    roles: Roles
    if config.weights == "adapters":
        roles = AdapterRoles(config.model, needs_values, device, seed)
    elif config.weights == "shared":
        roles = SharedRoles(load_policy(config.model, device, seed), needs_values)
    else:
        value = _value_model(config, device, seed) if needs_values else None
        roles = SeparateRoles(load_policy(config.model, device, seed), value)
    if config.gradient_checkpointing:
        for part in roles.module.values():
            if isinstance(part, PolicyModule | ValueModule):
                recompute_activations(part.model)
    return roles


def _value_model(config: RlConfig, device: torch.device, seed: int) -> ValueModule:
    """Return the reward model read as a value model on the same scale, or the policy with a head that is zero."""
    if config.value_model is None:
        loaded, _ = load_scorer(config.model, device, seed)
        unwrapped(loaded.model).score = scalar_head(loaded.model.config.hidden_size).to(device)
        return ValueModule(loaded.model)
    start = config.model.model_copy(update={"path": config.value_model, "fresh": None, "tokenizer": None})
    loaded, has_head = load_scorer(start, device, seed)
    refuse_untrained_head(config.value_model, has_head)
    scale, trained = read_scale(config.value_model), unwrapped(loaded.model).score
    head = nn.Linear(trained.in_features, 1)
    with torch.no_grad():
        head.weight.copy_(scale.gain * trained.weight)
        head.bias.fill_(scale.bias)
    unwrapped(loaded.model).score = head.to(device)
    return ValueModule(loaded.model)


class _PolicyWithReference:
    """A policy, and its frozen reference: the model before training, or the model without its adapters."""

    module: nn.ModuleDict

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        has_adapters = hasattr(loaded.model, "disable_adapter")
        self._frozen = None if has_adapters else copy.deepcopy(loaded.model).eval().requires_grad_(False)

    def asked(self, policy: bool) -> nn.Module:
        """Return the reference, and if the policy is asked all that learns."""
        reference = self.loaded.model if self._frozen is None else self._frozen
        return nn.ModuleList([reference, self.module] if policy else [reference])

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the log-probabilities [N] of the frozen copy, or of the policy without its adapters."""
        with torch.no_grad():
            if self._frozen is not None:
                return PolicyModule(self._frozen)(batch, temperature).statistics.log_probabilities
            with adapters_off(self.loaded.model):
                return PolicyModule(self.loaded.model)(batch, temperature).statistics.log_probabilities

    def activate_policy(self) -> None:
        """Nothing to do: the model is the policy at all times."""


class SeparateRoles(_PolicyWithReference):
    """Policy, reference and value are models of their own."""

    def __init__(self, loaded: LoadedModel, value: ValueModule | None) -> None:
        super().__init__(loaded)
        self.module = nn.ModuleDict({"policy": PolicyModule(loaded.model)} | ({"value": value} if value else {}))

    def value_parameters(self) -> list[str]:
        """The value model's."""
        return [name for name in _learning(self.module) if name.startswith("value.")]

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        return self.module["policy"](batch, temperature, extras)

    def values(self, batch: Batch) -> Tensor | None:
        return self.module["value"](batch) if "value" in self.module else None


class SharedRoles(_PolicyWithReference):
    """A value head on the policy's trunk: one forward pass for both."""

    def __init__(self, loaded: LoadedModel, needs_values: bool) -> None:
        super().__init__(loaded)
        head = scalar_head(unwrapped(loaded.model).config.hidden_size).to(loaded.device) if needs_values else None
        self.module = nn.ModuleDict({"policy": PolicyModule(loaded.model, head)})

    def value_parameters(self) -> list[str]:
        """None: what the head reads, the policy learns as well, so both learn at one rate."""
        return []

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        return self.module["policy"](batch, temperature, extras)

    def values(self, batch: Batch) -> Tensor | None:
        return None


class AdapterRoles:
    """One frozen base; policy and value are adapters on it, the reference is the base alone."""

    def __init__(self, config: ModelConfig, needs_values: bool, device: torch.device, seed: int) -> None:
        adapter = config.lora or LoraConfig()
        self.loaded = load_policy(config.model_copy(update={"lora": adapter}), device, seed)
        self.model: Any = self.loaded.model
        self.module: nn.ModuleDict = nn.ModuleDict({"policy": PolicyModule(self.model)})
        self.names = ["default"]
        self.value_head: nn.Linear | None = None
        if needs_values:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(seed, "value adapter"))
                self.model.add_adapter("value", self.model.peft_config["default"])
            self.names.append("value")
            self.value_head = scalar_head(unwrapped(self.model).config.hidden_size).to(device)
            self.module["value_head"] = self.value_head
        self.activate_policy()

    def value_parameters(self) -> list[str]:
        """The value's adapter and its head."""
        return [
            name for name in _learning(self.module) if adapter_of(name) == "value" or name.startswith("value_head.")
        ]

    def asked(self, policy: bool) -> nn.Module:
        """Return the one base of all."""
        return self.module

    def policy(self, batch: Batch, temperature: float, extras: Extras = "none") -> PolicyOutput:
        self.activate_policy()
        return self.module["policy"](batch, temperature, extras)

    def values(self, batch: Batch) -> Tensor | None:
        if self.value_head is None:
            return None
        self.activate("value")
        return self.value_head(hidden_states(self.model, batch, batch.predictor_index)).squeeze(-1).float()

    def reference(self, batch: Batch, temperature: float) -> Tensor:
        """Return the log-probabilities [N] of the model without its adapters."""
        with torch.no_grad(), adapters_off(self.model):
            log_probabilities = PolicyModule(self.model)(batch, temperature).statistics.log_probabilities
        self.activate_policy()
        return log_probabilities

    def activate_policy(self) -> None:
        self.activate("default")

    def activate(self, name: str) -> None:
        """Switch adapters, and let all that learn go on learning: peft freezes those that are not active."""
        self.model.set_adapter(name)
        for parameter_name, parameter in self.model.named_parameters():
            if (adapter := adapter_of(parameter_name)) is not None:
                parameter.requires_grad_(adapter in self.names)


def adapter_of(parameter_name: str) -> str | None:
    """Return the adapter that a parameter belongs to, by its name: ``….v_proj.lora_A.NAME.weight``; None for others."""
    found = re.search(r"\.lora_\w+\.([^.]+)(\.weight)?$", parameter_name)
    return found[1] if found else None


def _learning(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
