"""Plaudit's side of a training comparison: a stage of a run, as from the command line.

Run as a child process of compare.py.
"""

from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from comparison.materials import SEED, data_config
from comparison.meter import Meter, read_task
from plaudit.batching import Example
from plaudit.config.schema import Recipe


def main() -> None:
    """Run the stage and write the measurements."""
    task, result = read_task()
    meter, folder = Meter(task["device"]), Path(task["folder"])
    counted = _watch(meter, task["name"])
    from plaudit.runner import run
    from plaudit.runs.jsonl import read_json_lines

    stage = "rl" if task["group"] else task["name"]
    recipe = {"name": "run", "output": str(folder), "seed": SEED, "device": task["device"], "precision": "bf16"}
    place = run(Recipe.model_validate(recipe | {"threads": task["threads"], stage: _section(task)}), restart=True)
    metrics = [line for line in read_json_lines(place / stage / "metrics.jsonl") if line["step"] > 0]
    meter.write(result, losses=[line.get("loss") for line in metrics], **counted)


def _section(task: dict[str, Any]) -> dict[str, Any]:
    data = data_config(Path(task["folder"]) / "pairs.jsonl").model_dump(exclude_unset=True)
    models = Path(task["models"])
    section: dict[str, Any] = {
        "model": str(models / "policy"),
        "optimizer": {"learning_rate": task["learning_rate"], "schedule": "constant", "warmup_fraction": 0.0},
        "token_budget": 2048,
        "checkpoint_every": 10**6,
    }
    if task["group"]:
        return section | _reinforcement(task) | {"prompts": data}
    section |= {"data": data, "batch_size": task["batch_size"], "max_steps": task["updates"], "evaluate_every": 10**6}
    if task["name"] == "reward":
        return section | {"model": str(models / "scorer"), "normalize": False}
    return section | {"samples": 0} | ({"rows": "response"} if task["name"] == "sft" else {})


def _reinforcement(task: dict[str, Any]) -> dict[str, Any]:
    section = {
        "iterations": task["iterations"],
        "prompts_per_iteration": task["episodes"] // task["group"],
        "responses_per_prompt": task["group"],
        "epochs": task["passes"],
        "minibatches": task["minibatches"],
        "held_out_prompts": 0,
        "generation": {"max_new_tokens": task["new_tokens"], "min_new_tokens": task["new_tokens"]},
    }
    if task["name"] == "ppo":
        scorer = str(Path(task["models"]) / "scorer")
        return section | {"value_model": scorer, "rewards": [{"name": "model", "kind": "model", "path": scorer}]}
    return section | {
        "advantages": "grpo",
        "kl": {"placement": "loss", "estimator": "k3", "coefficient": 0.04},
        "rewards": [{"name": "e", "kind": "function", "function": "comparison.rewards:share_of_e"}],
    }


def _watch(meter: Meter, name: str) -> dict[str, int]:
    """Measure the steps with their records, and the reference's log-probabilities; count the work."""
    from plaudit.training import dpo
    from plaudit.training.accumulation import GradientAccumulator
    from plaudit.training.loop import Trainer
    from plaudit.training.rl.rollout_sampler import RolloutSampler

    meter.measure(Trainer, "run_step")
    meter.measure(Trainer, "_record")
    meter.measure(dpo, "prepared")
    counted = {"episodes": 0, "updates": 0, "tokens": 0}
    accumulate, sample = GradientAccumulator.accumulate, RolloutSampler.sample

    @wraps(accumulate)
    def counting(gradients: Any, examples: Sequence[Example[Any]]) -> Any:
        counted["updates"] += 1
        for tree in (example.tree for example in examples):
            prompts = len(tree.prompt) * len(tree.responses) if name == "reward" else 0
            counted["tokens"] += prompts + tree.response_tokens
        return accumulate(gradients, examples)

    @wraps(sample)
    def counting_episodes(sampler: RolloutSampler, prompts: Any) -> Any:
        counted["episodes"] += sum(map(len, prompts))
        return sample(sampler, prompts)

    setattr(GradientAccumulator, "accumulate", counting)  # noqa: B010
    setattr(RolloutSampler, "sample", counting_episodes)  # noqa: B010
    return counted


if __name__ == "__main__":
    main()
