"""User losses are found next to the recipe, equal the built-in ones bit for bit, and give clear errors."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from plaudit.algorithms.catalogue import (
    POLICY_LOSSES,
    PREFERENCE_LOSSES,
    REWARD_LOSSES,
    AdvantageEntry,
    PolicyLossEntry,
)
from plaudit.algorithms.catalogue import policy_loss as entry_of
from plaudit.algorithms.estimators import AdvantageInputs
from plaudit.algorithms.interface import LossOutputs, PolicyInputs
from plaudit.algorithms.policy_losses import Clip
from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.plugins import import_function
from plaudit.runner import run
from plaudit.runs.jsonl import read_json_lines
from plaudit.training.losses import load_estimator, load_loss
from tiny_runs import tiny_recipe

LOSSES = """
import torch
from torch.nn.functional import logsigmoid

from plaudit.algorithms.aggregation import weighted_sum
from plaudit.algorithms.comparisons import score_gaps
from plaudit.algorithms.estimators import Advantages
from plaudit.algorithms.interface import LossOutputs, Maximum, Mean
from plaudit.algorithms.preference_losses import mean_within_prompts


def my_ppo(inputs):
    ratio = (inputs.log_probabilities - inputs.old_log_probabilities).masked_fill(~inputs.mask, 0.0).exp()
    advantages = inputs.advantages.masked_fill(~inputs.mask, 0.0)
    clipped = ratio.clamp(1 - inputs.clip.low, 1 + inputs.clip.high)
    losses = torch.maximum(-advantages * ratio, -advantages * clipped)
    return LossOutputs(weighted_sum(losses, inputs.weights, inputs.mask), {"largest": Maximum(ratio.max().detach())})


def my_dpo(inputs):
    losses = -logsigmoid(score_gaps(inputs.settings["beta"] * inputs.log_ratios, inputs.pairs))
    found = mean_within_prompts(losses, inputs.prompts[inputs.pairs.better])
    return LossOutputs(found.loss, {"wrong": Mean((losses > 0.7).sum(), len(losses))})


def my_pairwise(inputs):
    losses = -logsigmoid(score_gaps(inputs.scores, inputs.pairs))
    return LossOutputs(mean_within_prompts(losses, inputs.prompts[inputs.pairs.better]).loss)


def with_settings(inputs):
    own = my_ppo if hasattr(inputs, "clip") else my_dpo if hasattr(inputs, "reference") else my_pairwise
    return LossOutputs(own(inputs).loss, {"factor": Maximum(inputs.settings["factor"])})


def centered(inputs):
    totals = inputs.rewards.sum(1)
    found = (totals - totals.mean())[:, None] * inputs.mask
    return Advantages(found, torch.zeros_like(found), torch.ones_like(totals))


def raises(inputs):
    return torch.ones(2) + torch.ones(3)


def gives_a_tensor(inputs):
    return inputs.advantages.sum()


def gives_rows(inputs):
    return LossOutputs(inputs.advantages)


def gives_a_number(inputs):
    return LossOutputs(inputs.advantages.sum(), {"used": 0.5})
"""


@pytest.fixture
def losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a recipe and, next to it, the module ``losses_of_mine``."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    tiny_recipe(tmp_path, rl__iterations=1)
    (tmp_path / "losses_of_mine.py").write_text(LOSSES)
    yield tmp_path
    sys.modules.pop("losses_of_mine", None)


def weights_and_lines(folder: Path, name: str, stage: str, *overrides: str) -> tuple[bytes, list[dict[str, float]]]:
    recipe = load_recipe(str(folder / "recipe.yaml"), [f"name={name}", *overrides])
    path = run(recipe, ["pretrain", "sft", *(["reward"] if stage == "rl" else []), stage]) / stage
    lines = [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in read_json_lines(path / "metrics.jsonl")
    ]
    return (path / "model" / "model.safetensors").read_bytes(), lines


@pytest.mark.parametrize(
    "stage, key, own, metric",
    [
        ("dpo", "dpo.loss", "my_dpo", "wrong"),
        ("reward", "reward.loss", "my_pairwise", None),
        ("rl", "rl.policy_loss", "my_ppo", "largest"),
    ],
)
def test_a_loss_next_to_the_recipe_equals_the_built_in_one_to_the_bit(
    losses: Path, stage: str, key: str, own: str, metric: str | None
) -> None:
    built_in, lines = weights_and_lines(losses, "built-in", stage)
    mine, own_lines = weights_and_lines(losses, "mine", stage, f"{key}=losses_of_mine:{own}")
    assert mine == built_in
    assert metric is None or all(metric in line for line in own_lines if "loss" in line or "policy_loss" in line)
    loss = "policy_loss" if stage == "rl" else "loss"
    assert [line.get(loss) for line in own_lines] == [line.get(loss) for line in lines]


@pytest.mark.parametrize("stage, key", [("dpo", "loss"), ("reward", "loss"), ("rl", "policy_loss")])
def test_a_loss_gets_its_settings(losses: Path, stage: str, key: str) -> None:
    settings = [f"{stage}.{key}=losses_of_mine:with_settings", f"{stage}.{key}_settings={{factor: 0.25}}"]
    _, lines = weights_and_lines(losses, "mine", stage, *settings)
    assert {line["factor"] for line in lines if "factor" in line} == {0.25}
    with pytest.raises(PlauditError, match=rf"{key}_settings=.*has no effect with {key}=.* only a loss of your own"):
        load_recipe(str(losses / "recipe.yaml"), [f"{stage}.{key}_settings={{factor: 0.25}}"])


def test_an_estimator_next_to_the_recipe(losses: Path) -> None:
    keys = ["rl.advantages=losses_of_mine:centered", "rl.responses_per_prompt=2", "rl.value_model=null"]
    _, lines = weights_and_lines(losses, "mine", "rl", *keys)
    assert "explained_variance" not in lines[-1]
    assert lines[-1]["policy_loss"] != 0


def inputs() -> PolicyInputs:
    ones = torch.ones(2, 3)
    old = ones.detach()
    return PolicyInputs(ones.requires_grad_(), old, old, old, old, ones > 0, Clip(0.2, 0.2))


@pytest.mark.parametrize(
    "name, message",
    [
        ("raises", r"raised RuntimeError at .*losses_of_mine\.py:\d+: "),
        ("gives_a_tensor", r"returned a value of type Tensor: return LossOutputs"),
        ("gives_rows", r"returned a loss of shape \(2, 3\): return a scalar"),
        ("gives_a_number", r"returned a metric used of type float: return Mean"),
    ],
)
def test_a_loss_that_fails_names_key_file_and_line(losses: Path, name: str, message: str) -> None:
    sys.path.append(str(losses))
    loss = load_loss(entry_of(f"losses_of_mine:{name}"), "rl.policy_loss")
    with pytest.raises(PlauditError, match=rf"^rl\.policy_loss: losses_of_mine:{name} {message}"):
        loss(inputs())


ESTIMATORS = """
import torch
from plaudit.algorithms.estimators import Advantages


def raises(inputs):
    return torch.ones(2) + torch.ones(3)


def gives_a_tensor(inputs):
    return inputs.rewards


def gives_rows(inputs):
    return Advantages(inputs.rewards.sum(1), inputs.rewards, inputs.rewards.sum(1))


def doubles(inputs):
    return Advantages(2 * inputs.rewards, inputs.rewards, inputs.rewards.sum(1))
"""


@pytest.mark.parametrize(
    "name, message",
    [
        ("raises", r"raised RuntimeError at .*losses_of_mine\.py:7: "),
        ("gives_a_tensor", r"returned a value of type Tensor: return Advantages"),
        ("gives_rows", r"returned advantages of shape \(2,\): return a tensor of shape \(2, 3\)"),
    ],
)
def test_an_estimator_that_fails_names_key_file_and_line(losses: Path, name: str, message: str) -> None:
    (losses / "losses_of_mine.py").write_text(ESTIMATORS)
    sys.path.append(str(losses))
    ones = torch.ones(2, 3)
    given = AdvantageInputs(ones, ones, ones > 0, 2, 1.0, 1.0)
    entry = AdvantageEntry("A", "ours", f"losses_of_mine:{name}")
    with pytest.raises(PlauditError, match=rf"^rl\.advantages: losses_of_mine:{name} {message}"):
        load_estimator(entry, "rl.advantages")(given)
    doubling = load_estimator(AdvantageEntry("A", "ours", "losses_of_mine:doubles"), "rl.advantages")
    assert doubling(given).advantages.tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("key, of", [("rl.policy_loss", "ppo"), ("dpo.loss", "dpo"), ("reward.loss", "pairwise")])
def test_a_name_that_is_neither_known_nor_a_function(losses: Path, key: str, of: str) -> None:
    with pytest.raises(PlauditError, match=rf"^{key}=nonsense: expected {of}, .*or module:function"):
        load_recipe(str(losses / "recipe.yaml"), [f"{key}=nonsense"])
    with pytest.raises(PlauditError, match="does not define missing"):
        load_loss(entry_of("json:missing"), key)


@pytest.mark.parametrize("key", ["rl.policy_loss", "dpo.loss", "reward.loss"])
def test_a_loss_that_cannot_be_imported_is_refused_before_anything_is_loaded(losses: Path, key: str) -> None:
    stage = key.partition(".")[0]
    without = [f"{name}=null" for name in ("pretrain", "sft", "reward", "dpo", "rl") if name != stage]
    model = [f"{stage}.model={losses}/nowhere", "rl.rewards.0.path=nowhere", "rl.value_model=null"][
        : 3 if stage == "rl" else 1
    ]
    recipe = load_recipe(str(losses / "recipe.yaml"), [*without, *model, f"{key}=losses_of_mine:missing"])
    with pytest.raises(PlauditError, match=rf"(?m)^{key}: the module losses_of_mine .*does not define missing"):
        run(recipe)


def toy(inputs: PolicyInputs) -> LossOutputs:
    """The sum of the advantages' products with the log-probabilities."""
    return LossOutputs(-(inputs.advantages * inputs.log_probabilities).sum())


def test_a_plugin_adds_a_loss_with_its_own_needs(losses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PolicyLossEntry("-A log pi", "ours", f"{__name__}:toy", aggregation="sequence_sum")
    monkeypatch.setitem(POLICY_LOSSES, "toy", entry)
    recipe = load_recipe(str(losses / "recipe.yaml"), ["rl.policy_loss=toy"])
    assert recipe.rl is not None
    assert load_loss(entry_of(recipe.rl.policy_loss), "rl.policy_loss")(inputs()).loss.item() == -6
    with pytest.raises(PlauditError, match=r"^rl\.clip=0\.1: has no effect with policy_loss=toy"):
        load_recipe(str(losses / "recipe.yaml"), ["rl.policy_loss=toy", "rl.clip=0.1"])


def test_every_entry_names_a_function_that_is_there() -> None:
    for entry in [*POLICY_LOSSES.values(), *PREFERENCE_LOSSES.values(), *REWARD_LOSSES.values()]:
        assert callable(import_function(entry.function, "catalogue"))
