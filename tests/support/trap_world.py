"""The set-up of the traps' tests: tiny models with wide random weights, trainers on them, and a second process."""

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.config.schema import Recipe
from plaudit.parallel.processes import ProcessGroup
from plaudit.parallel.state import trained_parameters
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import Session, start_session
from plaudit.stages.training import build_trainer
from rl_runs import load_fitting
from tiny_models import tiny_causal_model, tiny_classifier
from tiny_runs import tiny_recipe, write_tokenizer

EOS = 1  # of the tokenizer that ``tiny_recipe`` writes


def prepared(folder: Path, architecture: str = "llama") -> Path:
    """Write a recipe with its data, a policy and a reward model; every stage can start at once."""
    tiny_recipe(folder)
    policy, judge = tiny_causal_model(architecture), tiny_classifier(architecture, seed=1)
    with torch.no_grad():
        policy.get_output_embeddings().weight[EOS] *= 2.5  # some responses end, some are cut
    for name, model in (("policy", policy), ("judge", judge)):
        model.save_pretrained(folder / name)
        write_tokenizer(folder / name)
    return folder


def trainer(folder: Path, *overrides: str, stage: str = "rl") -> Any:
    """Return the trainer of a stage, before its first step; its ``task`` is the real one."""
    policy, judge = folder / "policy", folder / "judge"
    starts = [f"{name}.model={policy}" for name in ("sft", "reward", "dpo", "rl")]
    rl = [f"rl.rewards.0.path={judge}", "rl.scale_rewards=false"]
    has_values = not any(option.startswith(("rl.advantages", "rl.objective", "rl.value_model")) for option in overrides)
    rl += [f"rl.value_model={judge}"] * has_values
    recipe = load_fitting(folder / "recipe.yaml", [*starts, *rl, *overrides])
    session = _session(recipe, RunDirectory(folder / "runs/tiny"))
    return build_trainer(session, stage)


def collected(folder: Path, *overrides: str) -> Any:
    """Return the task of RL after its first rollouts, with a policy that differs from its reference."""
    task = trainer(folder, *overrides).task
    perturb(task.roles.loaded.model)
    task.begin_step(1)
    return task


def perturb(model: Any, scale: float = 0.1, seed: int = 5) -> None:
    """Move every weight, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def step_gradients(made: Any, trees: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return gradients and metrics of an optimizer step on ``trees`` without taking it."""
    sums = made.gradients.accumulate(trees)
    gradients = {name: p.grad.clone() for name, p in trained_parameters(made.task.module).items() if p.grad is not None}
    made.strategy.discard()
    return gradients, sums.means()


def in_the_middle(folder: Path, *overrides: str) -> Any:
    """Return a trainer in an iteration whose policy and values have moved since the rollouts."""
    made = trainer(folder, *overrides)
    made.task.begin_step(1)
    perturb(made.task.module, 0.02)
    assert len(made.task.experience.lengths.unique()) > 1
    return made


def same_step(found: tuple[dict[str, Tensor], dict[str, float]], expected: Any) -> None:
    """Assert equal gradients and equal numbers."""
    largest = max(float(gradient.abs().max()) for gradient in expected[0].values())
    for name, gradient in expected[0].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=2e-6 * largest, msg=name)
    assert found[1] == pytest.approx(expected[1], rel=1e-4, abs=1e-6)


def plain_logits(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    """Logits of a response's tokens [length, vocabulary] by one forward pass: no padding, no packing, no cache."""
    with torch.no_grad():
        logits: Tensor = model.eval()(torch.tensor([prompt + response])).logits
    return logits[0, len(prompt) - 1 : -1]


def plain_log_probabilities(
    model: Any, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of a response's tokens, [length], from ``plain_logits``."""
    log_probabilities = (plain_logits(model, prompt, response) / temperature).log_softmax(-1)
    return log_probabilities[range(len(response)), list(response)]


def responses_of(task: Any) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return prompt and response of every row of the task's experience."""
    return [(tree.prompt, response) for tree in task.experience.trees for response in tree.responses]


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Assert that two tensors agree in float64; NaN agrees with nothing."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# Two processes --------------------------------------------------------------------------------------------------------


def in_two_processes(work: Callable[[], Any], rendezvous: Path) -> Any:
    """Return the result of ``work`` in the first of two processes, which communicate over gloo.

    They are forked, so patches apply in them as well. The result must be plain data. An exception in either of them is
    raised here as ``WorkerError`` with its type and message.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    rendezvous.unlink(missing_ok=True)
    workers = [context.Process(target=_work, args=(rank, work, rendezvous, sending)) for rank in range(2)]
    for worker in workers:
        worker.start()
    sending.close()
    try:
        result, failure = receiving.recv()
    finally:
        for worker in workers:
            worker.join()
    if failure:
        raise WorkerError(failure)
    return result


class WorkerError(Exception):
    """An error in one of two processes."""


def _work(rank: int, work: Callable[[], Any], rendezvous: Path, sending: Any) -> None:
    try:
        torch.distributed.init_process_group(
            "gloo", f"file://{rendezvous}", timedelta(seconds=60), world_size=2, rank=rank
        )
        result = work()
        if rank == 0:
            sending.send((result, None))
        torch.distributed.barrier()
        os._exit(0)
    except BaseException as error:
        sending.send((None, f"{type(error).__name__}: {error}"))
        os._exit(1)


def _session(recipe: Recipe, run: RunDirectory) -> Session:
    if not torch.distributed.is_initialized():
        return start_session(recipe, run)
    return Session(recipe, run, ProcessGroup(torch.device("cpu")))
