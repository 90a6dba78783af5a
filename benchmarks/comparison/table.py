"""The table that a comparison prints."""

import argparse
import platform
from collections.abc import Sequence
from statistics import median

Results = dict[str, float]
NEEDS = {"wall": "seconds", "cpu": "cpu_seconds", "memory": "peak_bytes"}


def print_table(title: str, options: argparse.Namespace, unit: str, rounds: Sequence[dict[str, Results]]) -> None:
    """Print each side's medians over the repetitions, and the ratios of each repetition.

    A side's results are ``seconds``, ``cpu_seconds``, ``units`` of work, and ``peak_bytes`` if each side has a separate
    process.
    """
    ours, *others = rounds[0]
    units = rounds[0][ours]["units"]
    print(
        f"{title}, model {options.model}, {units:.0f} {unit}, {options.device}, {options.threads} thread(s), "
        f"{platform.machine()}"
    )
    columns = "{:12}{:>12}{:>12}{:>18}{:>18}{:>14}"
    heads = ("wall s", "cpu s", f"{unit}/wall s", f"{unit}/cpu s", "peak MB" if "peak_bytes" in rounds[0][ours] else "")
    print(columns.format("", *heads).rstrip())
    for side in rounds[0]:
        wall, cpu = (median(results[side][key] for results in rounds) for key in ("seconds", "cpu_seconds"))
        numbers = [f"{value:.2f}" for value in (wall, cpu, units / wall, units / cpu)]
        peaks = [results[side]["peak_bytes"] / 1e6 for results in rounds if "peak_bytes" in results[side]]
        print(columns.format(side, *numbers, f"{median(peaks):.0f}" if peaks else "").rstrip())
    for label, key in NEEDS.items():
        for other in others:
            if all(key in rounds[0][side] for side in (ours, other)):
                ratios = [results[other][key] / results[ours][key] for results in rounds]
                print(f"{label}: {other} needs {spread(ratios)} times what {ours} needs")


def spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Return median, minimum and maximum in words."""
    middle, least, most = (f"{number:.{digits}f}" for number in (median(numbers), min(numbers), max(numbers)))
    return f"median {middle} (minimum {least}, maximum {most})"
