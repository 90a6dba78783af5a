"""Measures how far a learned reward can be optimized before the true reward falls, as in Gao et al. 2022.

On the embedded task, one policy is fine-tuned, and several reward models are trained on the simulated annotators'
choices. Then the policy is optimized against them in several ways, with a KL penalty that is too weak to stop it, and
the gold score is recorded. Best-of-N and DPO are measured for comparison. The result is a figure (gold and learned
score against the root of the KL), a table of fitted curves and peaks, and both as JSON. Finished runs are not repeated.

Run with:  python benchmarks/overoptimization.py
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plaudit.config.load import load_recipe
from plaudit.evaluation.overoptimization import FittedCurve, fit_curve
from plaudit.runner import run
from plaudit.runs.jsonl import read_json_lines

MEMBERS = 4
GROUPS = ["rl.prompts_per_iteration=32", "rl.responses_per_prompt=4", "rl.value_model=null"]
WEAK_PENALTY = "rl.kl={coefficient: 0.002}"
TRAJECTORIES: dict[str, list[str]] = {
    "PPO": [WEAK_PENALTY],
    "GRPO": [*GROUPS, WEAK_PENALTY, "rl.advantages=grpo"],
    "RLOO": [*GROUPS, WEAK_PENALTY, "rl.advantages=rloo"],
    "online DPO": [*GROUPS, "rl.kl={coefficient: 0.02}", "rl.objective=online_dpo"],
    "PPO, mean of 4": [WEAK_PENALTY, "ensemble:mean"],
    "PPO, minimum of 4": [WEAK_PENALTY, "ensemble:minimum"],
    "PPO, mean - variance of 4": [WEAK_PENALTY, "ensemble:penalized"],
}
DPO_BETAS = (0.3, 0.1, 0.03, 0.01)
GOLD = "{name: gold, kind: function, function: 'plaudit.quickstart.gold:gold_scores', weight: 0}"
Point = tuple[float, float, float]
"""Root of the KL, gold score, learned score."""


def main() -> None:
    """Run everything that is not finished yet, then draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/overoptimization"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/overoptimization.png"))
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--comparisons", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    shared = [f"output={arguments.output}", f"threads={arguments.threads}"]
    base = _base(shared, arguments.comparisons)
    paths = {
        name: _trajectory(base, shared, name, options, arguments.iterations) for name, options in TRAJECTORIES.items()
    }
    paths["best of N"] = _best_of_n(base, shared)
    # The best of one is the policy that DPO starts from.
    paths["DPO"] = [paths["best of N"][0], *(_dpo(base, shared, beta) for beta in DPO_BETAS)]
    rows = [_row(name, points) for name, points in paths.items()]
    found = {"points": paths, "rows": rows}
    (arguments.output / "overoptimization.json").write_text(json.dumps(found, indent=1) + "\n")
    _print(rows)
    _draw(paths, arguments.figure)


# Runs -----------------------------------------------------------------------------------------------------------------


def _base(shared: list[str], comparisons: int) -> Path:
    """Run world, pre-training, fine-tuning and the reward models, from which all other runs start."""
    options = ["name=base", f"reward.members={MEMBERS}", "reward.epochs=2", f"world.comparisons={comparisons}"]
    return run(load_recipe("quickstart", [*shared, *options]), ["world", "pretrain", "sft", "reward"])


def _alone(base: Path, *stages: str) -> list[str]:
    """Return overrides that keep only the given stages of the quickstart, starting from the base run's models."""
    nothing = [f"{name}=null" for name in ("world", "pretrain", "sft", "reward", "rl", "evaluate", "report")]
    return [option for option in nothing if option.removesuffix("=null") not in stages]


def _trajectory(base: Path, shared: list[str], name: str, options: list[str], iterations: int) -> list[Point]:
    paths = [base / "reward/model", *(base / f"reward/member-{number}/model" for number in range(2, MEMBERS + 1))]
    combination = next((o.removeprefix("ensemble:") for o in options if o.startswith("ensemble:")), None)
    source = f"{{name: learned, kind: model, path: '{paths[0]}', batch_size: 128}}"
    if combination:
        folders = ", ".join(f"'{path}'" for path in paths)
        source = f"{{name: learned, kind: ensemble, combination: {combination}, paths: [{folders}]}}"
    overrides = [
        f"name={_slug(name)}",
        f"rl.model={base / 'sft/model'}",
        f"rl.value_model={paths[0]}",
        f"rl.prompts={{sources: ['{base / 'world/prompts.jsonl'}'], held_out_fraction: 0.05}}",
        f"rl.rewards=[{source}, {GOLD}]",
        f"rl.iterations={iterations}",
        "rl.optimizer={learning_rate: 5e-4, schedule: constant, beta2: 0.95}",
        *(option for option in options if not option.startswith("ensemble:")),
    ]
    folder = run(load_recipe("quickstart", [*shared, *overrides, *_alone(base, "rl")]))
    lines = [line for line in read_json_lines(folder / "rl/metrics.jsonl") if "kl" in line]
    return [(max(line["kl"], 0.0) ** 0.5, line["reward/gold"], line["reward/learned"]) for line in lines]


def _evaluation(base: Path, models: str) -> list[str]:
    learned = f"{{name: learned, kind: model, path: '{base / 'reward/model'}'}}"
    return [
        f"evaluate.models={{sft: '{base / 'sft/model'}'{models}}}",
        f"evaluate.prompts={{sources: ['{base / 'world/test_prompts.jsonl'}'], held_out_fraction: 1.0}}",
        f"evaluate.rewards=[{GOLD}, {learned}]",
        "evaluate.best_of_reward=learned",
    ]


def _best_of_n(base: Path, shared: list[str]) -> list[Point]:
    sizes = "evaluate.best_of=[1, 2, 4, 8, 16, 32, 64, 128]"
    options = ["name=best-of-n", *_evaluation(base, ""), sizes]
    folder = run(load_recipe("quickstart", [*shared, *options, *_alone(base, "evaluate")]))
    entries = json.loads((folder / "evaluate/summary.json").read_text())["best_of_n"]
    return [(entry["kl_bound"] ** 0.5, entry["scores"]["gold"], entry["scores"]["learned"]) for entry in entries]


def _dpo(base: Path, shared: list[str], beta: float) -> Point:
    stage = {
        "model": str(base / "sft/model"),
        "data": {"sources": [str(base / "world/comparisons.jsonl")], "held_out_fraction": 0.08},
        "loss": "dpo",
        "beta": beta,
        "batch_size": 16,
        "epochs": 2,
        "optimizer": {"learning_rate": 2e-4},
    }
    model = ", dpo: 'stage:dpo'"
    options = [f"name=dpo-{beta}", f"dpo={json.dumps(stage)}", *_evaluation(base, model), "evaluate.best_of=[]"]
    folder = run(load_recipe("quickstart", [*shared, *options, *_alone(base, "dpo", "evaluate")]))
    model_summary = json.loads((folder / "evaluate/summary.json").read_text())["models"]["dpo"]
    scores = {name: score["mean"] for name, score in model_summary["scores"].items()}
    return model_summary["kl"]["mean"] ** 0.5, scores["gold"], scores["learned"]


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


# Results --------------------------------------------------------------------------------------------------------------


def _fits(name: str, points: list[Point]) -> tuple[FittedCurve | None, FittedCurve | None]:
    form: Any = "best_of_n" if name == "best of N" else "rl"
    return fit_curve([(d, gold) for d, gold, _ in points], form), fit_curve([(d, own) for d, _, own in points], form)


def _row(name: str, points: list[Point]) -> dict[str, Any]:
    gold, learned = _fits(name, points)
    return {
        "name": name,
        "max_distance": max(d for d, _, _ in points),
        "best_gold": max(gold for _, gold, _ in points),
        "last_gold": points[-1][1],
        "last_learned": points[-1][2],
        **({f"gold_{key}": getattr(gold, key) for key in ("alpha", "beta", "peak")} if gold else {}),
        **({f"learned_{key}": getattr(learned, key) for key in ("alpha", "beta")} if learned else {}),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    keys = ["max_distance", "best_gold", "last_gold", "last_learned", "gold_alpha", "gold_beta", "gold_peak"]
    print(f"{'':28s}" + "".join(f"{key:>14s}" for key in keys))
    for row in rows:
        cells = (row.get(key) for key in keys)
        print(f"{row['name']:28s}" + "".join(f"{'-' if c is None else f'{c:.3f}':>14s}" for c in cells))


def _draw(paths: dict[str, list[Point]], file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, (name, points) in enumerate(paths.items()):
        color = f"C{number}"
        for axes, column, fit in ((left, 1, _fits(name, points)[0]), (right, 2, _fits(name, points)[1])):
            axes.scatter(
                [point[0] for point in points], [point[column] for point in points], s=7, color=color, alpha=0.4
            )
            for curve in _curve(fit):
                axes.plot(*curve, color=color, linewidth=1.6, label=name)
            if fit and fit.peak is not None and column == 1:
                axes.plot([fit.peak], [fit(fit.peak)], marker="v", color=color, markersize=9)
    left.set_ylabel("gold score (triangles: fitted peaks)")
    right.set_ylabel("learned score")
    for axes in (left, right):
        axes.set_xlabel("√KL to the reference (√nats per response)")
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _curve(fit: FittedCurve | None) -> Iterator[tuple[list[float], list[float]]]:
    if fit:
        places = [fit.max_distance * step / 200 for step in range(201)]
        yield places, [fit(place) for place in places]


if __name__ == "__main__":
    main()
