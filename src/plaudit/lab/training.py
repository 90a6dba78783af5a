"""One run of the laboratory, with the same code as every other run. It returns the policy as an exact table."""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig, ModelConfig, Recipe
from plaudit.lab.entries import Entry
from plaudit.lab.exact import Exact, enumerate_policy, sequence_log_probabilities
from plaudit.lab.preferences import preference_examples
from plaudit.lab.problem import MAX_TOKENS, PROMPTS, Problem, prompt_ids, responses
from plaudit.log import only_warnings
from plaudit.models.loading.pretrained import load_from
from plaudit.parallel.processes import OneProcess
from plaudit.registries.stages import STAGES
from plaudit.rewards.sources import build_reward
from plaudit.runs.lines import last
from plaudit.seeding import derived_seed
from plaudit.stages.training import TrainingStage

if TYPE_CHECKING:
    from plaudit.runs.context import StageContext

NEVER = 10**6
OPTIMIZER = {
    "learning_rate": 0.001,
    "schedule": "cosine",
    "final_fraction": 0.0,
    "beta2": 0.99,
    "epsilon": 1e-5,
    "max_gradient_norm": None,
}
RL: dict[str, Any] = {
    "iterations": 50,
    "prompts_per_iteration": len(PROMPTS),
    "responses_per_prompt": 64,
    "epochs": 1,
    "minibatches": 1,
    "generation": {"max_new_tokens": MAX_TOKENS, "batch_size": NEVER},
    "checkpoint_every": NEVER,
}
DPO: dict[str, Any] = {"batch_size": 32, "samples": 0, "checkpoint_every": NEVER, "pack_length": 64}
DPO_STEPS = 150
DPO_LEARNING_RATE = 0.0025
REWARD = {"name": "table", "kind": "function", "function": "plaudit.lab.problem:table_reward", "batch_size": NEVER}
EXACT_STEPS = 60
BEST_OF_N_DRAWS = 2000


def trained_policy(entry: Entry, problem: Problem, seed: int, folder: Path) -> Tensor:
    """Train from ``folder/reference``; return the policy's log-probabilities, float64 [prompts, responses]."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    with only_warnings():
        if entry.family == "exact":
            return _exact_gradient(problem, folder)
        if entry.family == "sampling":
            return _best_of_n(problem, seed, int(entry.overrides["n"]), folder)
        return (_train_rl if entry.family == "rl" else _train_dpo)(entry, problem, seed, folder)


def saved_policy(folder: Path) -> Tensor:
    """Return the log-probabilities of every response under a saved model, float64 [prompts, responses]."""
    from transformers import AutoModelForCausalLM

    return enumerate_policy(load_from(f"model {folder}", AutoModelForCausalLM.from_pretrained, str(folder)))


def _train_rl(entry: Entry, problem: Problem, seed: int, folder: Path) -> Tensor:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": p, "problem": problem.number}) + "\n" for p in PROMPTS))
    context = _context("rl", rl_section(entry, problem.beta, folder / "reference", prompts), seed, folder)
    stage = STAGES["rl"]
    assert isinstance(stage, TrainingStage)
    last(stage.run(context))
    return saved_policy(context.directory.model)


def rl_section(entry: Entry, beta: float, reference: Path, prompts: Path) -> dict[str, Any]:
    """Return the recipe's section ``rl`` of an entry."""
    given = {
        **RL,
        "model": {"path": str(reference)},
        "prompts": {"sources": [str(prompts)], "held_out_fraction": 0.0},
        "rewards": [REWARD],
        "kl": {} if entry.overrides.get("objective") == "best_of_n" else {"coefficient": beta},
        "optimizer": OPTIMIZER,
    }
    return _merged(given, entry.overrides)


def _train_dpo(entry: Entry, problem: Problem, seed: int, folder: Path) -> Tensor:
    from plaudit.models.loading.models import load_policy
    from plaudit.training.dpo import DpoTask
    from plaudit.training.examples import StageRows
    from plaudit.training.loop import Trainer
    from plaudit.training.model_reader import ModelReader
    from plaudit.training.reference_log_probabilities import SequenceModule
    from plaudit.training.sample_completions import SampleCompletions

    context = _context("dpo", dpo_section(entry, problem.beta, folder / "reference"), seed, folder)
    context.directory.create()
    loaded = load_policy(context.config.model, context.session.device, seed)
    reader, module = ModelReader(context, loaded), SequenceModule(loaded.model)
    examples = preference_examples(context, entry, problem, context.config.batch_size * DPO_STEPS, reader, module)
    samples = SampleCompletions(context, loaded, StageRows([], []))
    last(Trainer(DpoTask(context, reader, module, examples, samples)).train())
    return saved_policy(context.directory.model)


def dpo_section(entry: Entry, beta: float, reference: Path) -> dict[str, Any]:
    """Return the recipe's section ``dpo`` of an entry."""
    given = {
        **DPO,
        "model": {"path": str(reference)},
        "data": {"sources": ["sampled"]},
        "beta": entry.beta_factor * beta,
        "optimizer": OPTIMIZER | {"learning_rate": DPO_LEARNING_RATE},
    }
    return _merged(given, entry.overrides)


def _context(stage: str, section: Mapping[str, Any], seed: int, folder: Path) -> "StageContext[Any]":
    from plaudit.runs.context import stage_context
    from plaudit.runs.directory import RunDirectory
    from plaudit.runs.session import start_session

    shared = {"name": "run", "output": str(folder), "seed": seed, "device": "cpu", "threads": 1}
    recipe = Recipe.model_validate({**shared, stage: section}, strict=True)
    return stage_context(start_session(recipe, RunDirectory(folder / recipe.name)), stage)


def _merged(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``given`` with the overrides, section by section."""
    merged = dict(given)
    for key, value in overrides.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


# Without the loop -----------------------------------------------------------------------------------------------------


def _exact_gradient(problem: Problem, folder: Path) -> Tensor:
    """Maximize the exact objective, summed over all responses: the best that any gradient estimate could reach."""
    from transformers import AutoModelForCausalLM

    start = str(folder / "reference")
    model = load_from(f"model {start}", AutoModelForCausalLM.from_pretrained, start)
    exact = Exact(saved_policy(folder / "reference"), problem.rewards, problem.beta)
    rate, decay, floor = OPTIMIZER["learning_rate"], OPTIMIZER["beta2"], OPTIMIZER["epsilon"]
    assert isinstance(rate, float)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, decay), eps=floor, weight_decay=0.0)  # type: ignore[arg-type]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EXACT_STEPS)
    for _ in range(EXACT_STEPS):
        loss = -exact.values(sequence_log_probabilities(model).double()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return enumerate_policy(model)


def _best_of_n(problem: Problem, seed: int, n: int, folder: Path) -> Tensor:
    """Return the log of how often each response was the best of ``n``, by the engine and the reward source."""
    from plaudit.models.loading.models import load_policy
    from plaudit.rollouts.engines.model_engine import configured_engine
    from plaudit.rollouts.samples import Request

    settings = GenerationConfig(max_new_tokens=MAX_TOKENS, batch_size=NEVER)
    loaded = load_policy(ModelConfig(path=str(folder / "reference")), torch.device("cpu"))
    requests = [
        Request(prompt_ids(prompt), prompt, derived_seed(seed, "best of n", prompt, draw), {"problem": problem.number})
        for prompt in PROMPTS
        for draw in range(BEST_OF_N_DRAWS * n)
    ]
    with closing(configured_engine(settings.engine, loaded, OneProcess(loaded.device))) as engine:
        engine.update(0)
        samples = engine.generate(requests, settings)
    recipe_source = build_reward([_reward_source()], torch.device("cpu"))
    best = recipe_source.score(samples).total.reshape(-1, n).argmax(1)
    numbers = {response: number for number, response in enumerate(responses())}
    picked = [numbers[samples[row * n + int(place)].response_ids] for row, place in enumerate(best)]
    counts = torch.stack(
        [torch.bincount(part, minlength=len(numbers)) for part in torch.tensor(picked).chunk(len(PROMPTS))]
    )
    return (counts.double() / BEST_OF_N_DRAWS).log()


def _reward_source() -> Any:
    from plaudit.config.schema import FunctionReward

    return FunctionReward.model_validate(REWARD)
