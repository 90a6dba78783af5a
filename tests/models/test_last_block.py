"""The last MLP computes only the positions that are used: same states, same gradients, fewer rows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forests import forest
from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.models.acceleration.forward import recompute_activations
from plaudit.models.acceleration.last_mlp import computes_read_positions_only, last_mlp
from plaudit.models.acceleration.trial import last_mlp_fault
from plaudit.models.heads.policy import PolicyModule, PolicyOutput
from plaudit.models.heads.scalar import ScoreModule, ValueModule
from plaudit.models.trunk import trunk_of
from tiny_models import SIZES, tiny_causal_model, tiny_classifier

TAKEN = sorted(set(SIZES) - {"bloom", "opt"})  # BLOOM's MLP takes the residual too; OPT's is spread over the block


def batches() -> list[Batch]:
    return [build() for build in make_batches(forest(), PACKED, 64, 32)]


def log_probabilities(model: Any, batch: Batch) -> Tensor:
    output: PolicyOutput = PolicyModule(model)(batch)
    return output.statistics.log_probabilities


def scores(model: Any, batch: Batch) -> Tensor:
    found: Tensor = ScoreModule(model)(batch)
    return found


def learned(model: Any, made: list[Batch], read: Any) -> list[Tensor]:
    """Outputs of all batches, and the gradients of a weighted sum."""
    model.zero_grad()
    outputs = [read(model, batch) for batch in made]
    for output in outputs:
        (output * torch.linspace(-1, 1, len(output))).sum().backward()
    return [
        *(output.detach() for output in outputs),
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
    ]


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_supported_architectures(architecture: str) -> None:
    assert (last_mlp_fault(tiny_causal_model(architecture)) is None) == (architecture in TAKEN)


@pytest.mark.parametrize("architecture", TAKEN)
def test_policies_give_the_same_results(architecture: str) -> None:
    packs = architecture not in ("gemma2", "mistral")
    made = batches() if packs else [PADDED.build(forest(), range(7))]
    model = tiny_causal_model(architecture, dtype=torch.float64)
    expected = learned(model, made, log_probabilities)
    assert last_mlp_fault(model) is None
    for one, other in zip(learned(model, made, log_probabilities), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_reward_models_give_the_same_results(architecture: str) -> None:
    model, made = tiny_classifier(architecture, dtype=torch.float64), [PADDED.build(forest(), range(7))]
    expected = learned(model, made, scores)
    assert last_mlp_fault(model) is None
    for one, other in zip(learned(model, made, scores), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def rows_of(module: nn.Module) -> list[int]:
    """Count the rows that a linear layer computes, by appending to a list."""
    rows: list[int] = []
    module.register_forward_pre_hook(lambda _, arguments: rows.append(arguments[0].numel() // arguments[0].shape[-1]))
    return rows


def test_only_what_is_read_is_computed() -> None:
    model = tiny_classifier("llama")
    mlp: Any = last_mlp(trunk_of(model))
    rows = rows_of(mlp.gate_proj)
    (batch,) = (build() for build in make_batches(forest(), PACKED, 10**4, 10**4))
    scores(model, batch)
    last_mlp_fault(model)
    del rows[1:]
    scores(model, batch)
    ValueModule(model)(batch)
    prompts, tokens = len(batch.trees), len(batch.targets)
    responses = len(batch.lengths)
    # Before response tokens: every token except the last of each response, and the last of each prompt.
    assert rows == [batch.positions, responses, tokens - responses + prompts]


def test_recomputed_activations_cover_all_positions() -> None:
    model = tiny_causal_model("llama", dtype=torch.float64)
    assert last_mlp_fault(model) is None
    expected = learned(model, batches(), log_probabilities)
    recompute_activations(model.train())
    mlp: Any = last_mlp(trunk_of(model))
    rows = rows_of(mlp.gate_proj)
    for one, other in zip(learned(model, batches(), log_probabilities), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert set(rows) == {batch.positions for batch in batches()}


class Neighbor(nn.Module):
    """An MLP that reads the previous position."""

    def forward(self, states: Tensor) -> Tensor:
        return states + states.roll(1, dims=1)


def test_an_mlp_that_mixes_positions_is_not_changed() -> None:
    model = tiny_causal_model("llama")
    trunk_of(model).layers[-1].mlp = Neighbor()
    mlp: Any = last_mlp(trunk_of(model))
    assert str(last_mlp_fault(model)).startswith("hidden states differ")
    assert not computes_read_positions_only(mlp)
