"""Speed and memory beside other libraries: both sides in child processes by turns, on the same weights and tokens.

Run with:  python benchmarks/compare.py reward --data helpful-base/test.jsonl.gz
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from comparison.environment import FOLDER, python_with
from comparison.materials import in_order_of_training, make_data, make_models, write_ids
from comparison.table import print_table

TASKS = ("reward", "dpo", "sft", "grpo")
TRL = "1.16.0"
LOSS_TOLERANCE = {"reward": 0.005, "dpo": 0.005, "sft": 0.02}  # rounding of bfloat16 in a loss
EPISODES = 64  # of an iteration of reinforcement learning
Result = dict[str, Any]


def main() -> None:
    """Compare and print a table."""
    options = _options()
    models = FOLDER / "models" / options.model
    make_models(options.data, options.model, models)
    peer = python_with("trl", TRL)
    sides = {"plaudit": (sys.executable, "plaudit_side"), "trl": (str(peer), "trl_side")}
    with tempfile.TemporaryDirectory() as name:
        task = _task(options, models, Path(name))
        if options.task in LOSS_TOLERANCE:
            _check_losses(sides, task | {"updates": min(2, task["updates"]), "same_order": True})
        rounds = [{side: _run(*command, task) for side, command in sides.items()} for _ in range(options.repeats)]
    _check_counts(rounds, task)
    print_table(task, rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh-rlhf/helpful-base/test.jsonl.gz"))
    parser.add_argument("--model", choices=("30m", "gpt2"), default="30m")
    parser.add_argument("--pairs", type=int, default=48, help="rows; reinforcement learning: prompts")
    parser.add_argument("--repeats", type=int, default=3, help="how often both sides run")
    parser.add_argument("--batch", type=int, default=16, help="rows per optimizer step")
    parser.add_argument("--peer-batch", type=int, help="rows per forward pass of the peer; default: all of a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=48, help="reinforcement learning: tokens per response")
    return parser.parse_args()


def _task(options: argparse.Namespace, models: Path, folder: Path) -> dict[str, Any]:
    """Write the data into ``folder`` and return everything that both sides must know."""
    trees = make_data(options.task, options.data, models, options.pairs, folder)
    if options.task != "grpo":
        trees = in_order_of_training(trees, options.batch, options.task)
    write_ids(trees, folder / "ids.jsonl")
    group = 8 if options.task == "grpo" else 1
    return {
        "name": options.task,
        "model": options.model,
        "models": str(models.resolve()),
        "folder": str(folder),
        "rows": len(trees),
        "batch_size": options.batch,
        "peer_batch_size": options.peer_batch or (16 if options.task == "grpo" else options.batch),
        "updates": -(-len(trees) // options.batch),
        "same_order": False,
        "threads": options.threads,
        "learning_rate": 1e-5,
        "group": group,
        "episodes": EPISODES,
        "iterations": len(trees) * group // EPISODES,
        "new_tokens": options.new_tokens,
    }


def _run(python: str, module: str, task: dict[str, Any]) -> Result:
    """Run one side and return what it measured."""
    folder = Path(task["folder"])
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    threads = {"OMP_NUM_THREADS": str(task["threads"]), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", f"comparison.{module}", str(folder / "task.json"), str(folder / "result.json")]
    environment = os.environ | threads | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result: Result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def _check_losses(sides: dict[str, tuple[str, str]], task: dict[str, Any]) -> None:
    """Both sides must see the same losses in their first steps, on the same batches.

    Two steps, because the first loss of DPO is ln 2 whatever is computed.
    """
    losses = {side: _run(*command, task)["losses"] for side, command in sides.items()}
    for side, numbers in losses.items():
        print(f"first losses of {side}: " + ", ".join(f"{loss:.4f}" for loss in numbers))
    pairs = zip(losses["plaudit"], losses["trl"], strict=True)
    if not all(abs(ours - theirs) <= LOSS_TOLERANCE[task["name"]] for ours, theirs in pairs):
        raise SystemExit("the two sides do not compute the same")


def _check_counts(rounds: list[dict[str, Result]], task: dict[str, Any]) -> None:
    """Both sides must have taken equally many updates on equally many tokens."""
    for key in ("updates", "tokens"):
        counts = {side: {results[side][key] for results in rounds} for side in rounds[0]}
        if len(set.union(*counts.values())) != 1:
            raise SystemExit(f"the two sides differ in {key}: {counts}")
    print(f"updates {rounds[0]['plaudit']['updates']}, trained tokens {rounds[0]['plaudit']['tokens']}, on both sides")


if __name__ == "__main__":
    main()
