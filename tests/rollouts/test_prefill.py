"""Prompts computed in pieces, per tree, with the last MLP only where it is used: the same samples with less work."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from generating_models import ARCHITECTURES, engine_of, requests_of, tiny_model, word_tokenizer
from plaudit.batching.layouts.padded import PADDED
from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration import tree_attention as attention
from plaudit.models.acceleration.install import Acceleration
from plaudit.models.acceleration.last_mlp import last_mlp
from plaudit.rollouts.engines import running_batch as batch
from plaudit.rollouts.engines.transformers import TransformersEngine

LENGTHS = [3, 8, 8, 1, 6, 2, 7, 7, 4, 5]
SETTINGS = GenerationConfig(max_new_tokens=16, temperature=3.0, batch_size=10)


def shapes_of(model: Any) -> list[tuple[int, ...]]:
    """Record the shapes of token ids that the model receives from now on."""
    shapes: list[tuple[int, ...]] = []

    def note(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        shapes.append(tuple(options["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return shapes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples_do_not_change(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = tiny_model(architecture), requests_of(LENGTHS)
    plain = SimpleNamespace(
        model=tiny_model(architecture),
        tokenizer=word_tokenizer(),
        device=torch.device("cpu"),
        acceleration=Acceleration(PADDED, None, ()),
    )
    expected = TransformersEngine(plain).generate(requests, SETTINGS)
    monkeypatch.setattr(batch, "PREFILL_POSITIONS", 17)
    monkeypatch.setattr(attention, "LEAST_WORK", 0)
    engine = engine_of(model)
    shapes = shapes_of(model)
    for one, two in zip(engine.generate(requests, SETTINGS), expected, strict=True):
        assert one.response_ids == two.response_ids
        assert one.log_probabilities == pytest.approx(two.log_probabilities, abs=1e-5)
    # Lengths 8 8 | 7 7 | 6 5 | 4 3 2 1: every piece is padded to its own longest, the last one up to the end.
    assert shapes[:4] == [(2, 8), (2, 7), (2, 6), (4, 4)]


def test_a_prompt_may_be_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(batch, "PREFILL_POSITIONS", 4)
    engine, shapes = engine_of(model), shapes_of(model)
    engine.generate(requests_of([3, 8, 6]), GenerationConfig(max_new_tokens=1))
    assert shapes == [(1, 8), (1, 6), (1, 3)]


def test_the_last_mlp_computes_only_the_last_token_of_each_prompt() -> None:
    model = tiny_model("llama")
    rows: list[int] = []
    mlp: Any = last_mlp(model.model)
    engine = engine_of(model)
    mlp.gate_proj.register_forward_pre_hook(lambda _, arguments: rows.append(arguments[0][..., 0].numel()))
    engine.generate(requests_of(LENGTHS), GenerationConfig(max_new_tokens=2, min_new_tokens=2, batch_size=10))
    assert rows == [10, 10]
