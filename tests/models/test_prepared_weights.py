"""Weights that are cast and reordered once for many calls."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from plaudit.models.acceleration import prepared_weights as module_under_test
from plaudit.models.acceleration.prepared_weights import prepared_weights
from tiny_models import tiny_causal_model

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8], [9, 4, 4, 7]])
reordered_or_not = pytest.mark.parametrize("reordered", [True, False])


def set_order(reordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not reordered:
        monkeypatch.setattr(module_under_test, "takes_reordered", lambda *_: False)
    elif not module_under_test.takes_reordered(CPU, torch.bfloat16):
        pytest.skip("oneDNN computes no bfloat16 here")


@reordered_or_not
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])  # without bias; transposed, tied weights; with bias
def test_numbers_are_those_of_autocast(architecture: str, reordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_order(reordered, monkeypatch)
    model = tiny_causal_model(architecture)
    before = dict(model.named_parameters())
    matrices = [layer.get_parameter("weight") for layer in module_under_test.linear_layers(model)]
    assert len(matrices) > 8
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(IDS).logits
        with prepared_weights(model, CPU):
            assert torch.equal(model(IDS).logits, wanted)
        assert torch.equal(model(IDS).logits, wanted)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert all(matrix.requires_grad and matrix.dtype == torch.float32 for matrix in matrices)


@reordered_or_not
def test_prepared_layers_do_not_read_their_own_weights(reordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_order(reordered, monkeypatch)
    model = tiny_causal_model("opt")
    layers = [layer for layer in module_under_test.linear_layers(model) if layer is not model.lm_head]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(IDS).logits
        with prepared_weights(model, CPU):
            for layer in layers:
                layer.get_parameter("weight").fill_(torch.nan)
            assert torch.equal(model(IDS).logits, wanted)
        assert model(IDS).logits.isnan().all()


@reordered_or_not
def test_other_threads_compute_with_the_layers_own_weights(reordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that prepare the same model in float32, during this preparation and after its end."""
    set_order(reordered, monkeypatch)
    model = tiny_causal_model("llama")
    with torch.inference_mode():
        wanted = model(IDS).logits
    begun, ended = threading.Event(), threading.Event()

    def in_float32() -> list[torch.Tensor]:
        with torch.inference_mode(), prepared_weights(model, CPU):
            during = model(IDS).logits
            begun.set()
            assert ended.wait(60)
            return [during, model(IDS).logits]

    with ThreadPoolExecutor(1) as pool:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(IDS).logits
            with prepared_weights(model, CPU):
                other = pool.submit(in_float32)
                assert begun.wait(60)
                assert torch.equal(model(IDS).logits, rounded)
        ended.set()
        for logits in other.result():
            assert torch.equal(logits, wanted)
    assert not torch.equal(rounded.float(), wanted)
    assert not any("forward" in vars(module) for module in model.modules())


def test_bfloat16_weights_are_ordered_without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    set_order(True, monkeypatch)
    model = tiny_causal_model("gpt2", dtype=torch.bfloat16)
    with torch.inference_mode():
        wanted = model(IDS).logits
        with prepared_weights(model, CPU):
            assert "forward" in vars(model.lm_head)
            assert torch.equal(model(IDS).logits, wanted)


def test_float64_is_not_cast() -> None:
    model = tiny_causal_model("llama", dtype=torch.float64)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = model(IDS).logits
        with prepared_weights(model, CPU):
            assert torch.equal(model(IDS).logits, wanted)


@reordered_or_not
def test_layers_are_restored_after_an_error(reordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_order(reordered, monkeypatch)
    model = tiny_causal_model("llama")
    wanted = model(IDS).logits
    with pytest.raises(RuntimeError), torch.autocast("cpu", dtype=torch.bfloat16), prepared_weights(model, CPU):
        raise RuntimeError
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())
    assert torch.equal(model(IDS).logits, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_autocast_such_weights_stay(dtype: torch.dtype) -> None:
    model = tiny_causal_model("llama", dtype=dtype)
    before = [dict(vars(module)) for module in model.modules()]
    with prepared_weights(model, CPU):
        assert [dict(vars(module)) for module in model.modules()] == before


def test_a_layer_with_a_foreign_hook_keeps_it() -> None:
    model, calls = tiny_causal_model("llama"), []
    plain = model.lm_head.forward

    def hooked(states: torch.Tensor) -> torch.Tensor:
        calls.append(states.shape)
        logits: torch.Tensor = plain(states)
        return logits

    model.lm_head.forward = hooked
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), prepared_weights(model, CPU):
        model(IDS)
    assert calls == [(2, 4, 16)]
    assert model.lm_head.forward is hooked
