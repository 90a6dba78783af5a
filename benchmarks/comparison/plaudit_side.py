"""Our side of a training comparison: a stage of a run, as the command line would run it.

Run as a child process of compare.py.
"""

from functools import wraps
from pathlib import Path
from typing import Any

from comparison.materials import SEED, data_config
from comparison.meter import Meter, read_task
from plaudit.config.schema import Recipe


def main() -> None:
    """Run the stage and write what it took."""
    task, result = read_task()
    meter, folder = Meter(), Path(task["folder"])
    counted = _watch(meter, task["name"])
    from plaudit.runner import run
    from plaudit.training.metrics_log import read_metrics

    stage = "rl" if task["name"] == "grpo" else task["name"]
    recipe = {"name": "run", "output": str(folder), "seed": SEED, "device": "cpu", "precision": "bf16"}
    place = run(Recipe.model_validate(recipe | {"threads": task["threads"], stage: _section(task)}), restart=True)
    metrics = [line for line in read_metrics(place / stage / "metrics.jsonl") if line["step"] > 0]
    meter.write(result, losses=[line.get("loss") for line in metrics], **counted)


def _section(task: dict[str, Any]) -> dict[str, Any]:
    data = data_config(Path(task["folder"]) / "pairs.jsonl").model_dump()
    models = Path(task["models"])
    section: dict[str, Any] = {
        "model": str(models / "policy"),
        "optimizer": {"learning_rate": task["learning_rate"], "schedule": "constant", "warmup_share": 0.0},
        "token_budget": 2048,
        "checkpoint_every": 10**6,
        "evaluate_every": 10**6,
    }
    if task["name"] == "grpo":
        return section | _reinforcement(task) | {"prompts": data}
    section |= {"data": data, "batch_size": task["batch_size"], "max_steps": task["updates"]}
    if task["name"] == "reward":
        return section | {"model": str(models / "scorer"), "normalize": False}
    return section | {"samples": 0} | ({"rows": "response"} if task["name"] == "sft" else {})


def _reinforcement(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "advantages": "grpo",
        "iterations": task["iterations"],
        "prompts_per_iteration": task["episodes"] // task["group"],
        "responses_per_prompt": task["group"],
        "epochs": 1,
        "minibatches": 1,
        "held_out_prompts": 0,
        "generation": {"max_new_tokens": task["new_tokens"], "min_new_tokens": task["new_tokens"]},
        "kl": {"placement": "loss", "estimator": "k3", "coefficient": 0.04},
        "rewards": [{"name": "e", "kind": "function", "function": "comparison.rewards:share_of_e"}],
    }


def _watch(meter: Meter, name: str) -> dict[str, int]:
    """Measure the steps with their records, and the reference's log-probabilities; count what is learned."""
    from plaudit.training import dpo
    from plaudit.training.loop import Trainer

    meter.measure(Trainer, "_step")
    meter.measure(Trainer, "_record")
    meter.measure(dpo, "with_reference")
    counted = {"updates": 0, "tokens": 0}
    accumulate = Trainer.accumulate

    @wraps(accumulate)
    def counting(trainer: Trainer, trees: Any) -> Any:
        counted["updates"] += 1
        for tree in trees:
            prompts = len(tree.prompt) * len(tree.responses) if name == "reward" else 0
            counted["tokens"] += prompts + tree.response_tokens
        return accumulate(trainer, trees)

    setattr(Trainer, "accumulate", counting)  # noqa: B010
    return counted


if __name__ == "__main__":
    main()
