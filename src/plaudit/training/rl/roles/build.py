"""Loads the roles as configured."""

import torch
from torch import nn

from plaudit.config.schema import RlConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.forward import recompute_activations
from plaudit.models.adapters.folder import adapter_task, lora_of_adapter
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ValueModule, scalar_head
from plaudit.models.loading.models import LoadedModel, load_policy, load_scorer
from plaudit.models.reward_model import refuse_untrained_head, scale_of
from plaudit.models.trunk import unwrapped
from plaudit.rewards.trained_model import same_vocabulary
from plaudit.training.rl.roles.adapters import AdapterRoles
from plaudit.training.rl.roles.base import Roles
from plaudit.training.rl.roles.separate import SeparateRoles
from plaudit.training.rl.roles.shared import SharedRoles


def build_roles(config: RlConfig, device: torch.device, seed: int) -> Roles:
    """Load the roles in the configured arrangement, with values only for advantages that use them."""
    needs_values = config.uses_values
    roles: Roles
    if config.weights == "adapters":
        roles = AdapterRoles(config.model, needs_values, device, seed)
    elif config.weights == "shared":
        roles = SharedRoles(load_policy(config.model, device, seed), needs_values)
    else:
        value = _value_model(config, device, seed) if needs_values else None
        policy = load_policy(config.model, device, seed)
        if value is not None and not same_vocabulary(value.tokenizer, policy.tokenizer):
            raise PlauditError(
                f"rl.value_model: mismatched tokenizers: {config.value_model} does not share the policy's vocabulary, "
                "but both read the same token ids; train it from the policy's model"
            )
        roles = SeparateRoles(policy, None if value is None else ValueModule(value.model))
    return roles


def recompute_activations_of(roles: Roles) -> None:
    """Recompute the activations of policy and value model in the backward pass."""
    for part in roles.module.values():
        if isinstance(part, PolicyModule | ValueModule):
            recompute_activations(part.model)


def _value_model(config: RlConfig, device: torch.device, seed: int) -> LoadedModel:
    """Return a value model that starts from the reward model, on its scale, or from the policy with a zero head."""
    if config.value_model is None:
        loaded, _ = load_scorer(config.model, device, seed, "value model")
        unwrapped(loaded.model).score = scalar_head(loaded.model.config.hidden_size).to(device)
        return loaded
    lora = config.model.lora
    if lora is not None and lora.continues and adapter_task(config.value_model) is None:
        lora = lora_of_adapter(str(config.model.path), lora.dropout)
    changes = {"path": config.value_model, "fresh": None, "tokenizer": None, "lora": lora}
    start = config.model.model_copy(update=changes)
    loaded, has_head = load_scorer(start, device, seed, "value model")
    refuse_untrained_head(config.value_model, has_head)
    scale, trained = scale_of(loaded, config.value_model), unwrapped(loaded.model).score
    head = nn.Linear(trained.in_features, 1)
    with torch.no_grad():
        head.weight.copy_(scale.gain * trained.weight)
        head.bias.fill_(scale.bias)
    unwrapped(loaded.model).score = head.to(device)
    return loaded
