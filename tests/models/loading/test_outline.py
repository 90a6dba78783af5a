"""Models without the values of their parameters: everything else arrives, and the size does not grow with weights."""

from typing import Any

import pytest
import torch
from torch import nn

from plaudit.config.schema import LoraConfig
from plaudit.models.acceleration.install import Acceleration, install
from plaudit.models.adapters.lora import with_adapter
from plaudit.models.loading.outline import from_outline, outline_of
from tiny_models import tiny_causal_model


def described(model: nn.Module) -> list[tuple[str, torch.Size, torch.dtype, bool]]:
    return [(name, each.shape, each.dtype, each.requires_grad) for name, each in model.named_parameters()]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom"])
def test_everything_but_the_values_of_the_parameters_arrives(architecture: str) -> None:
    model = tiny_causal_model(architecture)
    acceleration = install(model, generates=True)
    model.config.pad_token_id = 7
    adapted = with_adapter(model, LoraConfig(), "CAUSAL_LM")
    found: Any
    record: Acceleration
    found, record = from_outline(outline_of((adapted, acceleration)))
    assert str(record) == str(acceleration)
    assert described(found) == described(adapted)
    assert all(parameter.is_meta for parameter in found.parameters())
    assert found.get_base_model().config.to_dict() == model.config.to_dict()
    buffers = dict(adapted.named_buffers())
    assert buffers.keys() == dict(found.named_buffers()).keys()
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in found.named_buffers())
    give_values(found, dict(adapted.named_parameters()))
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        assert torch.equal(found.eval()(tokens).logits, adapted.eval()(tokens).logits)


def give_values(model: nn.Module, weights: dict[str, nn.Parameter]) -> None:
    """Replace each parameter by the one of the same name, also where it is tied."""
    replaced = {parameter: weights[name] for name, parameter in model.named_parameters()}
    for part in model.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            part.register_parameter(name, replaced[parameter])


def test_tied_parameters_are_tied_again() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    found = from_outline(outline_of([nn.Sequential(first, second), first]))
    assert found[0][0].weight is found[0][1].weight is found[1].weight
    assert found[0][0] is found[1]


def test_the_size_does_not_depend_on_the_weights() -> None:
    sizes = [len(outline_of(nn.Linear(width, width))) for width in (10, 1000)]
    assert abs(sizes[1] - sizes[0]) < 50
