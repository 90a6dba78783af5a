"""The effect of precision=bf16 in numbers. bf16 has 8 significant bits: a rounding error is at most 2^-9 = 0.002."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.config.load import load_recipe
from plaudit.models.inference import token_log_probabilities
from plaudit.runner import run
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import Session, start_session
from plaudit.stages.training import build_trainer
from stage_trainers import first_step
from tiny_runs import tiny_recipe

STAGES = ("pretrain", "sft", "reward", "rl")
EARLIER = ("pretrain", "sft", "reward")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe in which all stages before RL are finished, in fp32."""
    path = tiny_recipe(tmp_path_factory.mktemp("fp32"), dpo=None)
    run(load_recipe(str(path)), EARLIER)
    return path


def session_of(recipe: Path, precision: str) -> Session:
    loaded = load_recipe(str(recipe), [f"precision={precision}"])
    return start_session(loaded, RunDirectory(Path(loaded.output) / loaded.name))


def log_probabilities(recipe: Path, precision: str) -> Tensor:
    session = session_of(recipe, precision)
    task: Any = build_trainer(session, "sft").task
    return torch.cat(
        token_log_probabilities(task.loaded, [example.tree for example in task.train], 1.0, 512, session.autocast())
    )


def scores(recipe: Path, precision: str) -> Tensor:
    task: Any = build_trainer(session_of(recipe, precision), "reward").task
    found: Tensor = task.raw_scores(task.train)
    return found


def test_log_probabilities(recipe: Path) -> None:
    """Measured: at most 0.0009 nats, on average 0.0002, of log-probabilities between -3.7 and -3.2."""
    exact, rounded = (log_probabilities(recipe, precision) for precision in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    difference = (exact - rounded).abs()
    assert 0 < float(difference.max()) < 0.005
    assert float(difference.mean()) < 0.001


def test_scores(recipe: Path) -> None:
    """Measured: at most 0.0064, on average 0.0019, of scores with a standard deviation of 0.30."""
    exact, rounded = (scores(recipe, precision) for precision in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    difference = (exact - rounded).abs()
    assert 0 < float(difference.max()) < 0.02
    assert float(difference.mean()) < 0.005
    assert float(exact.std()) > 0.2


@pytest.mark.parametrize("stage", STAGES)
def test_losses_and_gradients_of_the_first_step(recipe: Path, stage: str) -> None:
    """Both precisions from the same weights.

    Measured: losses of 3.4 (pretrain, sft) differ by less than 0.0001, of 0.77 (reward) by 0.0005, of 0.39 and 8.6
    (policy, value) by 0.0004 and 0.0023. Gradients differ by 0.3 % of their length, those of the reward model by 0.6 %.
    """
    (exact, sums), (rounded, other) = (first_step(stage, recipe, [f"precision={p}"]) for p in ("fp32", "bf16"))
    assert other.means() == pytest.approx(sums.means(), rel=0.003, abs=0.001)
    one, two = (torch.cat([gradient.flatten() for gradient in found.values()]) for found in (exact, rounded))
    assert 0 < float((one - two).norm() / one.norm()) < 0.03


def metrics(folder: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]


def largest_differences(one: list[dict[str, float]], other: list[dict[str, float]]) -> dict[str, float]:
    return {key: max(abs(a[key] - b[key]) for a, b in zip(one, other, strict=True) if key in a) for key in one[-1]}


def test_a_run_of_fine_tuning(recipe: Path, tmp_path: Path) -> None:
    """Measured over 5 steps: losses of 3.4, training and held out, differ by 0.0005, gradient norms by 0.006."""
    bf16 = tiny_recipe(tmp_path, dpo=None, precision="bf16")
    folder = run(load_recipe(str(bf16)), ["pretrain", "sft"])
    differences = largest_differences(metrics(recipe.parent / "runs/tiny", "sft"), metrics(folder, "sft"))
    assert differences["loss"] < 0.003
    assert differences["held_out/loss"] < 0.003
    assert differences["gradient_norm"] < 0.05


def test_a_run_of_reinforcement_learning(recipe: Path, tmp_path: Path) -> None:
    """From the same models, two iterations of 6 responses.

    Measured in the first, where all responses are the same: rewards apart by 0.003, policy loss 0.0117 by 0.0001, value
    loss 9.13 by 0.017, gradient norm 32.1 by 0.025, largest ratio 1.377 by 0.001, sampled against trained
    log-probabilities by 0.0005. In the second one response has other tokens (lengths are the same): KL of -0.034 apart
    by 0.015, policy loss by 0.004; entropies of 3.4 are apart by less than 0.00001 in both.
    """
    done = recipe.parent / "runs/tiny"
    places = {
        "model": f"{done}/sft/model",
        "rewards.0.path": f"{done}/reward/model",
        "value_model": f"{done}/reward/model",
    }
    found = []
    for precision in ("fp32", "bf16"):
        earlier: dict[str, Any] = dict.fromkeys((*EARLIER, "dpo"))
        path = tiny_recipe(tmp_path, name=precision, precision=precision, **earlier)
        folder = run(load_recipe(str(path), [f"rl.{key}={place}" for key, place in places.items()]))
        found.append([line for line in metrics(folder, "rl") if line["step"] > 0])
    first = largest_differences(found[0][:1], found[1][:1])
    assert 0 < first["reward/mean"] < 0.02
    assert first["policy_loss"] < 0.002
    assert first["value_loss"] < 0.1
    assert first["gradient_norm"] < 0.2
    assert first["ratio/max"] < 0.01
    both = largest_differences(*found)
    assert 0 < both["rollout_gap"] < 0.002
    assert both["kl"] < 0.05
    assert both["entropy"] < 0.001
    assert both["policy_loss"] < 0.02
