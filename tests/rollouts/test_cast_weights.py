"""Weights that are cast once while autocast is on."""

import pytest
import torch
from generating_models import tiny_model

from plaudit.rollouts.cast_weights import weights_cast_once

CPU = torch.device("cpu")


@pytest.mark.parametrize("tied", [True, False])
def test_numbers_are_those_of_autocast(tied: bool) -> None:
    model = tiny_model("llama", tie_word_embeddings=tied).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    before = dict(model.named_parameters())
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(ids).logits
        with weights_cast_once(model, CPU):
            assert model.lm_head.weight.dtype == torch.bfloat16
            assert model.model.embed_tokens.weight.dtype == torch.float32
            assert torch.equal(model(ids).logits, wanted)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_weights_come_back_after_an_error() -> None:
    model = tiny_model("llama")
    with pytest.raises(RuntimeError), torch.autocast("cpu", dtype=torch.bfloat16), weights_cast_once(model, CPU):
        raise RuntimeError
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_without_autocast_nothing_is_cast() -> None:
    model = tiny_model("llama")
    with weights_cast_once(model, CPU):
        assert model.lm_head.weight.dtype == torch.float32
