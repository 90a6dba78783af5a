"""Loss and gradient of every stage do not depend on how the work is split: budget, rows, layout, processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from plaudit.config.load import load_recipe, resolve_stages
from plaudit.parallel.gradients import sum_gradients
from plaudit.parallel.state import trained_parameters
from plaudit.runner import run
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import Session, start_session
from plaudit.training.dpo import load_dpo_task
from plaudit.training.loop import Trainer
from plaudit.training.metric_sums import MetricSums
from plaudit.training.reward import load_reward_task
from plaudit.training.rl.stage import load_rl_task
from plaudit.training.sft import load_sft_task
from plaudit.training.task import Task
from tiny_runs import tiny_recipe

STAGES = ("pretrain", "sft", "reward", "dpo", "rl")
SPLITS = {
    "small budget": ["{stage}.token_budget=64"],
    "short rows": ["{stage}.pack_length=24", "{stage}.token_budget=48"],
    "recomputed": ["{stage}.gradient_checkpointing=true"],
    "padded": ["{stage}.model.layout=padded"],
    "padded, small": ["{stage}.model.layout=padded", "{stage}.token_budget=64"],
}


def trainer_of(stage: str, session: Session) -> Trainer:
    section: Any = resolve_stages(getattr(session.recipe, stage), session.run.folder)
    context = StageContext(section, session, session.run.stage(stage))
    task: Task
    if stage in ("pretrain", "sft"):
        task = load_sft_task(context, "text" if stage == "pretrain" else "response")
    elif stage == "reward":
        task = load_reward_task(context)[0]
    elif stage == "dpo":
        task = load_dpo_task(context)
    else:
        task = load_rl_task(context)
    return Trainer(task)


def first_step(stage: str, recipe: Path, overrides: list[str]) -> tuple[dict[str, Tensor], MetricSums]:
    """Return the gradients and the sums of a stage's first optimizer step, over all processes."""
    loaded = load_recipe(str(recipe), overrides)
    session = start_session(loaded, RunDirectory(Path(loaded.output) / loaded.name))
    trainer = trainer_of(stage, session)
    if stage == "dpo":
        # Away from the reference, where every implicit reward is zero but for rounding.
        with torch.no_grad():
            for parameter in trained_parameters(trainer.task.module).values():
                parameter.mul_(1.05)
    sums = trainer.accumulate(trainer.task.begin_step(1))
    parameters = trained_parameters(trainer.task.module)
    sum_gradients(list(parameters.values()), session.processes)
    everyone = MetricSums()
    for share in session.gather(sums):
        everyone.merge(share)
    return {name: p.grad for name, p in parameters.items() if p.grad is not None}, everyone


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose stages are finished, so that each stage's first step can be taken again."""
    path = tiny_recipe(tmp_path_factory.mktemp("runs"), rl__entropy_coefficient=0.01)
    run(load_recipe(str(path)))
    return path


def assert_same(found: tuple[dict[str, Tensor], MetricSums], expected: tuple[dict[str, Tensor], MetricSums]) -> None:
    gradients, sums = expected
    assert found[0].keys() == gradients.keys()
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert largest > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=float(2e-6 * largest), msg=name)
    assert found[1].means() == pytest.approx(sums.means(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_one_process(recipe: Path, stage: str, split: str) -> None:
    overrides = [override.format(stage=stage) for override in SPLITS[split]]
    assert_same(first_step(stage, recipe, overrides), first_step(stage, recipe, []))


@pytest.mark.parametrize("weights", ["shared", "adapters"])
def test_weight_arrangements(recipe: Path, weights: str) -> None:
    arrangement = [f"rl.weights={weights}", "rl.value_model=null"]
    assert_same(first_step("rl", recipe, [*arrangement, "rl.token_budget=64"]), first_step("rl", recipe, arrangement))


@pytest.mark.parametrize("loss", ["kto", "plackett_luce", "simpo", "orpo"])
def test_preference_losses(recipe: Path, loss: str) -> None:
    chosen = [f"dpo.loss={loss}"]
    assert_same(first_step("dpo", recipe, [*chosen, "dpo.token_budget=64"]), first_step("dpo", recipe, chosen))


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes(recipe: Path, stage: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    script = [__file__, stage, str(recipe), str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sums = MetricSums()
    sums.load_state_dict(json.loads((tmp_path / "sums.json").read_text()))
    assert_same((load_file(tmp_path / "gradients.safetensors"), sums), first_step(stage, recipe, []))


def _worker(stage: str, recipe: str, folder: str) -> None:
    gradients, sums = first_step(stage, Path(recipe), ["processes=2", "distributed=replicated"])
    if os.environ["RANK"] == "0":
        save_file(gradients, Path(folder) / "gradients.safetensors")
        (Path(folder) / "sums.json").write_text(json.dumps(sums.state_dict()))
    # Both have all they need; gloo's threads may abort a process that Python takes apart around them.
    torch.distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    _worker(*sys.argv[1:])
