"""Time and memory of training, compared with TRL: both sides run alternately in child processes, on the same weights.

reward, sft, dpo: steps over pairs. grpo: iterations of sampling and one update. ppo: whole iterations of sampling,
scoring by a reward model, and four epochs of four minibatches, with a separate value model, compared with TRL's last
version that has PPO.

    python benchmarks/compare.py reward --pairs 48 --repeats 3 --peer-batch 4
    python benchmarks/compare.py ppo --responses 8 --new-tokens 48 --repeats 3
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from comparison.environment import python_with
from comparison.materials import in_order_of_training, make_data, make_models, write_ids
from comparison.options import common_options, parsed, positive
from comparison.table import print_table

TRL = {"reward": "1.16.0", "dpo": "1.16.0", "sft": "1.16.0", "grpo": "1.16.0", "ppo": "1.12.0"}
LOSS_TOLERANCE = {"reward": 0.005, "dpo": 0.005, "sft": 0.02}  # rounding of bfloat16 in a loss
UNITS = {"reward": "pairs", "dpo": "pairs", "sft": "rows", "grpo": "episodes", "ppo": "episodes"}
RESPONSES = {"grpo": 8, "ppo": 1}  # to each prompt, by default
PASSES = {"grpo": 1, "ppo": 4}  # over an iteration's episodes
MINIBATCHES = {"grpo": 1, "ppo": 4}  # of a pass
Result = dict[str, Any]


def main() -> None:
    """Compare and print a table."""
    options = read_options()
    models = make_models(options.data, options.model)
    peer = python_with("trl", TRL[options.task])
    sides = {"plaudit": (sys.executable, "plaudit_side"), "trl": (str(peer), "trl_side")}
    with tempfile.TemporaryDirectory() as name:
        task = write_task(options, models, Path(name))
        if options.task in LOSS_TOLERANCE:
            _check_losses(sides, task | {"updates": min(2, task["updates"]), "same_order": True})
        rounds = [{side: run_side(*command, task) for side, command in sides.items()} for _ in range(options.repeats)]
    _check_counts(rounds, task)
    print_table(options.task, options, UNITS[options.task], rounds)


def read_options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("task", choices=tuple(TRL))
    parser.add_argument(
        "--pairs",
        type=positive,
        help="number of rows (default: 48); in reinforcement learning, prompts of one iteration",
    )
    parser.add_argument("--batch", type=positive, default=16, help="rows per optimizer step")
    parser.add_argument(
        "--peer-batch",
        type=positive,
        help="rows per forward pass of the peer (default: all of a step; grpo: 16; ppo: all of an iteration while it "
        "samples and scores, because it always trains on a whole minibatch)",
    )
    parser.add_argument("--episodes", type=positive, default=64, help="reinforcement learning: responses per iteration")
    parser.add_argument(
        "--responses", type=positive, help="reinforcement learning: responses to each prompt (default: 8; ppo: 1)"
    )
    parser.add_argument("--new-tokens", type=positive, default=48, help="reinforcement learning: tokens per response")
    return parsed(parser)


def write_task(options: argparse.Namespace, models: Path, folder: Path) -> dict[str, Any]:
    """Write the data into ``folder`` and return the settings of both sides."""
    if options.responses and options.task not in RESPONSES:
        raise SystemExit(f"--responses: {options.task} does not sample; remove this option")
    group = (options.responses or RESPONSES[options.task]) if options.task in RESPONSES else None
    prompts = options.episodes // group if group else 1
    if group and options.episodes % group:
        raise SystemExit(f"--episodes: {options.episodes} is not a multiple of {group}, the responses per prompt")
    pairs = options.pairs or (prompts if group else 48)
    if pairs % prompts:
        raise SystemExit(f"--pairs: an iteration answers {prompts} prompts; give a multiple of this number")
    trees = make_data(options.task, options.data, models, pairs, folder)
    if not group:
        trees = in_order_of_training(trees, options.batch, options.task)
    write_ids(trees, folder / "ids.jsonl")
    return {
        "name": options.task,
        "model": options.model,
        "models": str(models.resolve()),
        "folder": str(folder),
        "device": options.device,
        "threads": options.threads,
        "learning_rate": 1e-5,
        "rows": len(trees),
        "batch_size": options.batch,
        "peer_batch_size": options.peer_batch or {"grpo": 16, "ppo": options.episodes}.get(options.task, options.batch),
        "updates": -(-len(trees) // options.batch),
        "same_order": False,
        "group": group,
        "episodes": options.episodes,
        "iterations": len(trees) // prompts,
        "passes": PASSES.get(options.task),
        "minibatches": MINIBATCHES.get(options.task),
        "new_tokens": options.new_tokens,
    }


def run_side(python: str, module: str, task: dict[str, Any]) -> Result:
    """Run one side and return its measurements."""
    folder = Path(task["folder"])
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    threads = {"OMP_NUM_THREADS": str(task["threads"]), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", f"comparison.{module}", str(folder / "task.json"), str(folder / "result.json")]
    environment = os.environ | threads | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    units = task["iterations"] * task["episodes"] if task["group"] else task["rows"]
    result: Result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result | {"units": units}


def _check_losses(sides: dict[str, tuple[str, str]], task: dict[str, Any]) -> None:
    """Check that both sides have the same losses in their first steps, on the same batches.

    Two steps, because the first loss of DPO is always ln 2.
    """
    losses = {side: run_side(*command, task)["losses"] for side, command in sides.items()}
    for side, numbers in losses.items():
        print(f"first losses of {side}: " + ", ".join(f"{loss:.4f}" for loss in numbers))
    pairs = zip(losses["plaudit"], losses["trl"], strict=True)
    if not all(abs(ours - theirs) <= LOSS_TOLERANCE[task["name"]] for ours, theirs in pairs):
        raise SystemExit("the two sides do not compute the same losses")


def _check_counts(rounds: list[dict[str, Result]], task: dict[str, Any]) -> None:
    """Check that both sides sampled as many episodes and made as many updates on the same tokens."""
    names = ("episodes", "updates", "tokens") if task["group"] else ("updates", "tokens")
    for key in names:
        counts = {side: {results[side][key] for results in rounds} for side in rounds[0]}
        if len(set.union(*counts.values())) != 1:
            raise SystemExit(f"the two sides differ in {key}: {counts}")
    print("on both sides: " + ", ".join(f"{rounds[0]['plaudit'][key]} {key}" for key in names))


if __name__ == "__main__":
    main()
