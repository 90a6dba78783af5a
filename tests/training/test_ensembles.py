"""Ensembles of reward models: differences between members, interruption, and combined scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.rewards.ensemble import EnsembleSource
from plaudit.rewards.sources import build_reward
from plaudit.rollouts.samples import Sample
from plaudit.runner import run
from plaudit.runs.directory import StageDirectory
from plaudit.runs.jsonl import read_json_lines
from tiny_runs import tiny_recipe

PATHS = "rl.rewards=[{name: judges, kind: ensemble, combination: minimum, paths: [%s]}]"
MEMBERS = ["stage:reward", "stage:reward/member-2/model", "stage:reward/member-3/model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose reward stage trained three members, and whose policy learned from their minimum."""
    folder = tmp_path_factory.mktemp("members")
    options = ["reward.members=3", PATHS % ", ".join(f"'{path}'" for path in MEMBERS), "rl.value_model=null"]
    return run(load_recipe(str(tiny_recipe(folder)), options))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_members_differ_and_the_first_is_the_stage_s_model(folder: Path) -> None:
    one, two, three = (weights(folder / f"reward/member-{number}/model") for number in (1, 2, 3))
    assert not torch.equal(one["score.weight"], two["score.weight"])
    assert not torch.equal(two["score.weight"], three["score.weight"])
    assert all(torch.equal(tensor, one[name]) for name, tensor in weights(folder / "reward/model").items())
    files = [folder / f"reward/{path}model/model.safetensors" for path in ("", "member-1/")]
    assert files[0].samefile(files[1]), "the largest file is not copied"
    assert (folder / "reward/metrics.jsonl").read_bytes() == (folder / "reward/member-1/metrics.jsonl").read_bytes()


def test_the_policy_learned_from_the_minimum(folder: Path) -> None:
    lines = [line for line in read_json_lines(folder / "rl/metrics.jsonl") if "kl" in line]
    assert len(lines) == 2
    assert all(line["reward/mean"] == pytest.approx(line["reward/judges"]) for line in lines)


def test_the_source_combines_its_members_scores(folder: Path) -> None:
    config: Any = load_recipe(str(folder / "config.yaml")).rl
    paths = [str(folder / "reward/model"), *(str(folder / f"reward/member-{number}/model") for number in (2, 3))]
    source = config.rewards[0].model_copy(update={"paths": paths, "combination": "penalized", "penalty": 0.5})
    ensemble = EnsembleSource.load(source, torch.device("cpu"))
    samples = [Sample((0, 4 + number), (5 + number, 9, 1), "w0", "w1 w2", True) for number in range(4)]
    each = torch.stack([member.score(samples) for member in ensemble.members])
    expected = each.mean(0) - 0.5 * ((each - each.mean(0)) ** 2).mean(0)
    torch.testing.assert_close(build_reward([source], torch.device("cpu")).score(samples).total, expected)
    assert each.std(0).min() > 1e-4


def test_finished_members_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    original = StageDirectory.finish

    def finish(self: Any, result: Any) -> None:
        if self.name.startswith("member") and "member-1" in trained and len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(self.name)
        original(self, result)

    recipe = load_recipe(str(tiny_recipe(tmp_path)), ["reward.members=2"])
    with monkeypatch.context() as patch:
        patch.setattr(StageDirectory, "finish", finish)
        run(recipe, ["pretrain", "sft"])
        trained.clear()
        with pytest.raises(KeyboardInterrupt):
            run(recipe, ["reward"])
    before = (tmp_path / "runs/tiny/reward/member-1/metrics.jsonl").stat().st_mtime_ns
    run(recipe, ["reward"])
    assert (tmp_path / "runs/tiny/reward/member-1/metrics.jsonl").stat().st_mtime_ns == before
    assert (tmp_path / "runs/tiny/reward/model/model.safetensors").exists()


def test_an_ensemble_needs_two(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match=r"rewards\.0\.paths: .*at least 2"):
        load_recipe(str(tiny_recipe(tmp_path)), [PATHS % "'stage:reward'"])
