"""The gradients of a stage's first step, in one process or in two."""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from plaudit.config.load import load_recipe
from plaudit.parallel.gradients import sum_gradients
from plaudit.parallel.state import trained_parameters
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session
from plaudit.stages.training import build_trainer
from plaudit.training.metric_sums import MetricSums


def first_step(stage: str, recipe: Path, overrides: list[str]) -> tuple[dict[str, Tensor], MetricSums]:
    """Return the gradients and the sums of a stage's first optimizer step, over all processes."""
    loaded = load_recipe(str(recipe), overrides)
    session = start_session(loaded, RunDirectory(Path(loaded.output) / loaded.name))
    trainer = build_trainer(session, stage)
    if stage == "dpo":
        # Away from the reference, where every implicit reward is zero up to rounding.
        with torch.no_grad():
            for parameter in trained_parameters(trainer.task.module).values():
                parameter.mul_(1.05)
    sums = trainer.gradients.accumulate(trainer.task.begin_step(1))
    parameters = trained_parameters(trainer.task.module)
    sum_gradients(list(parameters.values()), session.processes)
    everyone = MetricSums()
    for share in session.processes.gather(sums):
        everyone.merge(share)
    return {name: p.grad for name, p in parameters.items() if p.grad is not None}, everyone


def _worker(recipe: str, folder: str, *stages: str) -> None:
    for stage in stages:
        gradients, sums = first_step(stage, Path(recipe), ["processes=2", "distributed=replicated"])
        if os.environ["RANK"] == "0":
            save_file(gradients, Path(folder) / f"{stage}.safetensors")
            (Path(folder) / f"{stage}.json").write_text(json.dumps(sums.state_dict()))
    # Exit without cleanup: gloo's threads may abort a process during Python's shutdown.
    torch.distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    _worker(*sys.argv[1:])
