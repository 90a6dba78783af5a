"""The engine's own decoding on a CPU against the model's usual attention."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from generating_models import ARCHITECTURES, engine_of, plain_log_probabilities, requests_of, tiny_model
from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration import tree_attention as attention
from plaudit.models.acceleration.cached_attention import decode
from plaudit.rollouts.engines.cache import GenerationCache
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request, Sample

SETTINGS = GenerationConfig(max_new_tokens=40, temperature=3.0, batch_size=40)
OWN_DECODING = {"llama", "qwen2", "gpt2", "gpt_neox", "opt", "cohere", "granite"}


def shared_prompts() -> list[Request]:
    """Nine prompts, of one to five requests each, so that groups differ in size and shrink unevenly."""
    return [
        Request(request.prompt_ids, "", seed=10 * row + copy)
        for row, request in enumerate(requests_of([3, 8, 8, 1, 6, 2, 7, 4, 5]))
        for copy in range(1 + row % 5)
    ]


def both_ways(
    engine: TransformersEngine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Sample], list[Sample], int]:
    """Return samples by the engine's decoding and by the usual path, and the number of calls of the former."""
    calls: list[int] = []

    def counted(*arguments: Any, decode: Callable[..., torch.Tensor] = decode) -> torch.Tensor:
        calls.append(1)
        return decode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(attention, "decode", counted)
        own = engine.generate(requests, SETTINGS)
        count = len(calls)
        patch.setattr(attention, "cached_keys", lambda key: None)
        usual = engine.generate(requests, SETTINGS)
        assert len(calls) == count
    return own, usual, count


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_samples_are_the_same(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, usual, calls = both_ways(engine_of(tiny_model(architecture)), shared_prompts(), monkeypatch)
    assert (calls > 0) == (architecture in OWN_DECODING)
    assert {sample.ended for sample in own} == {True, False}
    for one, two in zip(own, usual, strict=True):
        assert one.response_ids == two.response_ids
        assert one.log_probabilities == pytest.approx(two.log_probabilities, abs=1e-5)


def test_an_odd_head_size_uses_the_ordinary_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("gpt2", n_embd=36)
    own, usual, calls = both_ways(engine_of(model), shared_prompts(), monkeypatch)
    assert calls == 0
    assert [sample.response_ids for sample in own] == [sample.response_ids for sample in usual]


@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "bfloat16 weights"])
def test_bfloat16_is_as_close_to_float32_as_the_ordinary_path(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root mean square error of the response tokens' log-probabilities, up to the first token that differs."""
    exact = engine_of(tiny_model("llama")).generate(shared_prompts(), SETTINGS)
    engine = engine_of(tiny_model("llama").bfloat16() if whole else tiny_model("llama"))
    with nullcontext() if whole else torch.autocast("cpu", dtype=torch.bfloat16):
        own, usual, calls = both_ways(engine, shared_prompts(), monkeypatch)
    assert calls > 0
    errors = []
    for samples in (own, usual):
        differences = []
        for rough, sample in zip(samples, exact, strict=True):
            equal = [a == b for a, b in zip(rough.response_ids, sample.response_ids, strict=False)]
            same = equal.index(False) if False in equal else len(equal)
            differences += [
                a - b for a, b in zip(rough.log_probabilities[:same], sample.log_probabilities, strict=False)
            ]
        assert len(differences) > 100
        errors.append(torch.tensor(differences).square().mean().sqrt().item())
    assert errors[0] < 1.25 * errors[1]
    assert errors[0] < 0.05


@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_prompts_are_kept_once_and_rows_leave(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All states have the type of training's attention: under autocast keys arrive in float32, values in bfloat16."""
    held: list[tuple[int, int]] = []
    wanted = torch.float32 if precision == "float32" else torch.bfloat16
    keep_rows = GenerationCache.keep_rows

    def watched(self: GenerationCache, rows: torch.Tensor) -> None:
        keep_rows(self, rows)
        for states in (layer.states for layer in self.layers):
            numbers = (states.prompt_keys, states.prompt_values, states.keys, states.values)
            assert {each.dtype for each in numbers} == {wanted}
            assert len(states.keys) == len(states.values) == len(states.prompt_of_row) == len(rows)
            held.append((len(states.prompt_keys), len(rows)))

    monkeypatch.setattr(GenerationCache, "keep_rows", watched)
    requests = shared_prompts()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
        engine_of(tiny_model("llama")).generate(requests, SETTINGS)
    assert {prompts for prompts, _ in held} == {9}
    assert [rows for _, rows in held] == sorted((rows for _, rows in held), reverse=True)
    assert held[-1][1] < len(requests)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_generates_under_autocast(architecture: str) -> None:
    """Its log-probabilities equal those of a plain forward pass in float32, up to bfloat16's rounding."""
    model = tiny_model(architecture)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        samples = engine_of(model).generate(shared_prompts(), SETTINGS)
    assert {sample.ended for sample in samples} == {True, False}
    exact = [plain_log_probabilities(model, sample, SETTINGS.temperature) for sample in samples]
    errors = torch.cat([torch.tensor(one.log_probabilities) - its for one, its in zip(samples, exact, strict=True)])
    assert len(errors) > 100
    assert errors.square().mean().sqrt() < 0.05


def test_without_numba_the_samples_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine_of(tiny_model("llama")).generate(shared_prompts(), SETTINGS)
    for name in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "plaudit.models.acceleration.decoding_kernel", raising=False)
    found = engine_of(tiny_model("llama")).generate(shared_prompts(), SETTINGS)
    assert "plaudit.models.acceleration.decoding_kernel" not in sys.modules
    for one, two in zip(found, expected, strict=True):
        assert one.response_ids == two.response_ids
        assert one.log_probabilities == pytest.approx(two.log_probabilities, abs=1e-5)


def test_two_engines_in_two_threads_sample_what_they_sample_alone() -> None:
    """The threads take turns in the middle of every layer, in prefill and at every token, under autocast."""
    models = [tiny_model("llama"), tiny_model("gpt2")]
    settings = GenerationConfig(max_new_tokens=6, min_new_tokens=6, batch_size=40)
    engines, requests = [engine_of(model) for model in models], [requests_of([3, 8, 5]), requests_of([7, 2, 4], seed=1)]

    def sampled(number: int) -> list[Sample]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return engines[number].generate(requests[number], settings)

    alone = [sampled(number) for number in (0, 1)]
    turns = threading.Barrier(2)

    def take_turns(*_: Any) -> None:
        turns.wait(60)

    parts = [part for model in models for part in model.modules() if type(part).__name__.endswith(("Attention", "MLP"))]
    assert len(parts) == 8
    for part in parts:
        part.register_forward_pre_hook(take_turns)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(sampled, (0, 1))) == alone
