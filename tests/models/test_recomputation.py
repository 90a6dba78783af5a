"""Recomputed activations: the same gradients, and no deprecation warning."""

import warnings
from typing import Any

import torch

from plaudit.models.acceleration.forward import recompute_activations
from tiny_models import tiny_causal_model

TOKENS = torch.arange(3, 11)[None]


def gradients_and_passes(model: Any) -> tuple[list[torch.Tensor], int]:
    """Return the gradients of a loss, and how often the first attention was computed."""
    passes: list[None] = []
    hook = model.base_model.layers[0].self_attn.register_forward_hook(lambda *_: passes.append(None))
    loss = model.train()(input_ids=TOKENS, labels=TOKENS).loss
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    hook.remove()
    return list(gradients), len(passes)


def test_layers_are_computed_again_in_the_backward_pass() -> None:
    model = tiny_causal_model("llama", dtype=torch.float64)
    expected, once = gradients_and_passes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recompute_activations(model)
    found, twice = gradients_and_passes(model)
    assert (once, twice) == (1, 2)
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)
