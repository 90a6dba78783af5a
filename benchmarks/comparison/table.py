"""The table that a comparison prints."""

import platform
from collections.abc import Sequence
from statistics import median
from typing import Any

UNITS = {"reward": "pairs", "dpo": "pairs", "sft": "rows", "grpo": "episodes"}


def print_table(task: dict[str, Any], rounds: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Print medians of each side over the rounds, and the ratios of each round."""
    name = UNITS[task["name"]]
    units = task["episodes"] * task["iterations"] if name == "episodes" else task["rows"]
    print(f"{task['name']}, model {task['model']}, {units} {name}, {task['threads']} thread(s), {platform.machine()}")
    columns = "{:10}{:>12}{:>12}{:>18}{:>18}{:>14}"
    print(columns.format("", "wall s", "cpu s", f"{name}/wall s", f"{name}/cpu s", "peak MB"))
    for side in rounds[0]:
        wall, cpu, peak = (
            median(results[side][key] for results in rounds) for key in ("seconds", "cpu_seconds", "peak_bytes")
        )
        numbers = [f"{value:.2f}" for value in (wall, cpu, units / wall, units / cpu)]
        print(columns.format(side, *numbers, f"{peak / 1e6:.0f}"))
    for label, key in (("wall", "seconds"), ("cpu", "cpu_seconds"), ("memory", "peak_bytes")):
        ours, *others = rounds[0]
        for other in others:
            ratios = sorted(results[other][key] / results[ours][key] for results in rounds)
            spread = f"median {median(ratios):.2f} (least {ratios[0]:.2f}, most {ratios[-1]:.2f})"
            print(f"{label}: {other} needs {spread} times what {ours} needs")
