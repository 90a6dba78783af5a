"""A run folder with plausible numbers, as after a finished run."""

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CONFIG = """\
name: concierge
seed: 7
sft:
  model: stage:pretrain
rl:
  iterations: 120
  kl:
    coefficient: 0.05
    target: 6.0
evaluate:
  baseline: sft
report:
  note: <for guests & hosts>
"""

METADATA: dict[str, Any] = {
    "name": "concierge",
    "started": "2031-03-04T10:15:00+00:00",
    "seed": 7,
    "device": "cpu",
    "threads": 2,
    "processes": 1,
    "python": "3.11.7",
    "platform": "Linux-6.1-x86_64",
    "cpu": "Example CPU, 2 cores",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0", "accelerate": "1.15.0", "plaudit": "0.1.0"},
    "plaudit_revision": "89abcdef0123456789abcdef0123456789abcdef",
    "git_revision": "0123456789abcdef0123456789abcdef01234567",
    "data": {
        "world/demonstrations.jsonl": {"sha256": "a3" * 32, "bytes": 412_345},
        "world/comparisons.jsonl": {"sha256": "5f" * 32, "bytes": 1_912_345},
    },
    "stages": {
        "world": {"seconds": 1.4},
        "pretrain": {"seconds": 55.2},
        "sft": {"seconds": 21.7},
        "reward": {"seconds": 34.1},
        "rl": {"seconds": 131.9},
        "evaluate": {"seconds": 12.3},
    },
}


def model(scores: tuple[float, float], win: float | None, kl: float, rest: dict[str, float]) -> dict[str, Any]:
    gold, reward = scores
    entry: dict[str, Any] = {
        "scores": {
            "reward_model": {"mean": reward, "standard_error": 0.061},
            "gold": {"mean": gold, "standard_error": 0.0123},
        },
        "kl": {"mean": kl, "standard_error": 0.21 if kl else 0.0},
        **rest,
    }
    if win is not None:
        interval = {"rate": win, "low": win - 0.03, "high": win + 0.03}
        entry["win_rate"] = {"reward_model": interval, "gold": interval}
    return entry


def text_numbers(nll: float, length: float, distinct: float, ended: float) -> dict[str, float]:
    return {
        "negative_log_likelihood": nll,
        "perplexity": math.exp(nll),
        "length": length,
        "distinct_1": distinct,
        "distinct_2": distinct + 0.3,
        "ended_fraction": ended,
    }


def sample(index: int) -> dict[str, Any]:
    texts = {
        "pretrain": ("the table the table at seven and", 0.11, -1.4),
        "sft": ("We have a table.", 0.52, 0.1),
        "ppo": ("Good evening, Ms Okafor. A table for four at seven, by the window, is yours. Thank you!", 0.97, 1.8),
    }
    return {
        "prompt": f"Guest {index}: a table for four at seven, please, by the window. <b>Okafor</b> & family",
        "responses": {
            name: {"text": text, "scores": {"reward_model": reward, "gold": gold}}
            for name, (text, gold, reward) in texts.items()
        },
    }


def make_summary() -> dict[str, Any]:
    return {
        "prompts": 300,
        "simulated": True,
        "baseline": "sft",
        "reference": "sft",
        "reward_sources": ["reward_model", "gold"],
        "generation": {"max_new_tokens": 48, "temperature": 1.0},
        "models": {
            "pretrain": model((0.187, -1.231), 0.08, 9.12, text_numbers(2.31, 31.4, 0.212, 0.61)),
            "sft": model((0.523, 0.034), None, 0.0, text_numbers(1.08, 24.2, 0.241, 0.97)),
            "ppo": model((0.914, 1.912), 0.94, 12.25, text_numbers(1.41, 27.9, 0.198, 0.99)),
        },
        "best_of_n": [
            {"n": n, "kl_bound": math.log(n) - (n - 1) / n, "scores": {"reward_model": reward, "gold": gold}}
            for n, reward, gold in ((1, 0.03, 0.52), (4, 0.81, 0.68), (16, 1.32, 0.77), (64, 1.61, 0.82))
        ],
        "samples": [sample(index) for index in range(8)],
    }


def reward_judgement() -> dict[str, Any]:
    """The reward stage's result: its accuracy, the baselines' and its calibration."""
    numbers: dict[str, Any] = {"baseline/length_tokens/sign": -1, "baseline/length_characters/sign": 1}
    numbers |= {"baseline_rows": 20000, "scale_responses": 4096}
    shares = {
        "held_out_accuracy": 0.823,
        "baseline/length_tokens": 0.514,
        "baseline/length_characters": 0.506,
        "baseline/bag_of_words": 0.668,
    }
    for name, accuracy in shares.items():
        numbers |= {f"{name}/accuracy": accuracy, f"{name}/low": accuracy - 0.04, f"{name}/high": accuracy + 0.035}
        numbers |= {f"{name}/pairs": 480, f"{name}/prompts": 480}
    numbers["calibration"] = [
        {
            "from": 0.5 + 0.05 * index,
            "to": 0.55 + 0.05 * index,
            "pairs": 20 * (index + 1),
            "predicted": 0.525 + 0.05 * index,
            "right": 0.56 + 0.044 * index,
            "low": 0.56 + 0.044 * index - 0.2 / (index + 1),
            "high": min(1.0, 0.56 + 0.044 * index + 0.2 / (index + 1)),
        }
        for index in range(10)
    ]
    return numbers


def rise(step: int, count: int, start: float, end: float) -> float:
    """Values from start to end, fast at first."""
    return end + (start - end) * math.exp(-4 * step / count)


def rl_metrics(count: int) -> Iterable[dict[str, Any]]:
    draw = random.Random(1)
    for step in range(1, count + 1):
        noise = draw.gauss(0, 1)
        row = {
            "step": step,
            "seconds": 1.1 * step,
            "reward/mean": rise(step, count, 0.0, 1.85) + 0.12 * noise,
            "reward/std": rise(step, count, 0.95, 0.45),
            "reward/reward_model": rise(step, count, 0.0, 1.85) + 0.12 * noise,
            "kl": rise(step, count, -0.1, 12.5) + 0.4 * draw.gauss(0, 1),
            "kl_coefficient": 0.05 + 0.04 * step / count,
            "entropy": rise(step, count, 1.3, 0.62) + 0.02 * draw.gauss(0, 1),
            "policy_loss": -0.02 + 0.01 * draw.gauss(0, 1),
            "value_loss": rise(step, count, 0.9, 0.12) + 0.03 * abs(draw.gauss(0, 1)),
            "explained_variance": -8.0 if step == 1 else rise(step, count, -0.2, 0.71) + 0.05 * draw.gauss(0, 1),
            "clip_fraction": 0.11 + 0.02 * draw.gauss(0, 1),
            "value_clip_fraction": 0.05 + 0.01 * draw.gauss(0, 1),
            "approximate_kl": 0.012 + 0.002 * draw.gauss(0, 1),
            "ratio/max": 1.8 + 0.2 * draw.gauss(0, 1),
            "response_length": rise(step, count, 24.0, 28.0) + 0.5 * draw.gauss(0, 1),
            "ended_fraction": min(1.0, rise(step, count, 0.96, 0.995)),
            "learning_rate": 2e-4 * (1 - 0.9 * step / count),
            "gradient_norm": rise(step, count, 2.1, 0.7) + 0.1 * abs(draw.gauss(0, 1)),
        }
        if step % 20 == 0:
            row["held_out/reward_model"] = rise(step, count, 0.0, 1.8)
        yield row


def supervised_metrics(count: int, start: float, end: float) -> Iterable[dict[str, Any]]:
    draw = random.Random(2)
    for step in range(1, count + 1):
        loss = rise(step, count, start, end) + 0.05 * draw.gauss(0, 1)
        row = {"step": step, "seconds": 0.2 * step, "loss": loss, "learning_rate": 1e-3 * (1 - step / count)}
        row |= {"gradient_norm": 1 + 0.1 * draw.gauss(0, 1), "tokens": 4096}
        if step % 25 == 0:
            held_out = rise(step, count, start, end) + 0.06
            row |= {"held_out/loss": held_out, "held_out/perplexity": math.exp(held_out)}
            row |= {"held_out/accuracy": rise(step, count, 0.2, 0.74)}
        yield row


def reward_metrics(count: int) -> Iterable[dict[str, Any]]:
    draw = random.Random(3)
    for step in range(1, count + 1):
        row = {
            "step": step,
            "seconds": 0.3 * step,
            "loss": rise(step, count, 0.7, 0.38) + 0.03 * draw.gauss(0, 1),
            "accuracy": min(1.0, rise(step, count, 0.5, 0.84) + 0.03 * draw.gauss(0, 1)),
            "margin": rise(step, count, 0.0, 1.7) + 0.1 * draw.gauss(0, 1),
            "learning_rate": 1e-3 * (1 - step / count),
            "gradient_norm": 1 + 0.1 * draw.gauss(0, 1),
        }
        if step % 20 == 0:
            row |= {
                "held_out/loss": rise(step, count, 0.69, 0.41),
                "held_out/accuracy": rise(step, count, 0.5, 0.823),
                "held_out/margin": rise(step, count, 0.0, 1.52),
                "held_out/calibration_error": rise(step, count, 0.09, 0.027),
            }
        yield row


def training_texts() -> Iterable[dict[str, Any]]:
    for step in range(0, 121, 20):
        for prompt in ("A taxi to the station at nine?", "May I have a late checkout, room 12?"):
            response = "the the" if step == 0 else f"Certainly, with pleasure, at nine (after {step} rounds)."
            yield {"step": step, "prompt": prompt, "response": response, "scores": {"reward_model": step / 60}}


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_object(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


FEW_METRICS = {"step", "loss", "kl", "reward/mean", "reward/reward_model", "held_out/accuracy"}


def write_small_run(folder: Path) -> Path:
    """A run with few curves, which is faster to draw."""
    write_run(folder)
    for path in folder.glob("*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        write_lines(path, ({key: row[key] for key in FEW_METRICS & row.keys()} for row in rows[::5]))
    return folder


def write_run(folder: Path, iterations: int = 120) -> Path:
    """A whole run, as after the embedded task."""
    write_object(folder / "metadata.json", METADATA)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    write_lines(folder / "rl" / "metrics.jsonl", rl_metrics(iterations))
    write_lines(folder / "rl" / "samples.jsonl", training_texts())
    write_lines(folder / "sft" / "metrics.jsonl", supervised_metrics(150, 2.4, 1.05))
    write_lines(folder / "pretrain" / "metrics.jsonl", supervised_metrics(400, 5.1, 1.4))
    write_lines(folder / "reward" / "metrics.jsonl", reward_metrics(160))
    for stage, numbers in METADATA["stages"].items():
        judgement = reward_judgement() if stage == "reward" else {}
        write_object(folder / stage / "result.json", {**numbers, "steps": 120, **judgement})
    write_object(folder / "evaluate" / "summary.json", make_summary())
    return folder
