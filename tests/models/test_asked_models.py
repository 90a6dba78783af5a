"""Outside of training, the weights of the models that compute a batch are prepared, those of others are not."""

from types import SimpleNamespace
from typing import Any

import torch

from plaudit.models.heads.scalar import ValueModule
from plaudit.training.rl.roles.separate import SeparateRoles
from plaudit.training.rl.roles.shared import SharedRoles
from tiny_models import tiny_causal_model, tiny_classifier


def loaded(model: Any) -> Any:
    return SimpleNamespace(model=model, device=torch.device("cpu"))


def test_the_reference_alone_or_with_all_trainable_modules() -> None:
    policy, value = tiny_causal_model("llama"), ValueModule(tiny_classifier("llama"))
    roles = SeparateRoles(loaded(policy), value)
    (reference,) = roles.frozen_modules()
    frozen = set(reference.modules())
    assert set(roles.modules_used(policy=False).modules()) >= frozen
    assert not set(roles.modules_used(policy=False).modules()) & set(policy.modules())
    assert set(roles.modules_used(policy=True).modules()) >= frozen | set(policy.modules()) | set(value.modules())


def test_a_reference_without_adapters_is_the_policys_own_base() -> None:
    policy = tiny_causal_model("llama")
    policy.disable_adapter = None
    roles = SharedRoles(loaded(policy), needs_values=False)
    assert not roles.frozen_modules()
    assert set(roles.modules_used(policy=False).modules()) >= set(policy.modules())
