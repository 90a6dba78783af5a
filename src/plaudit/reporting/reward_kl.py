"""The points of the figure of reward against KL to the reference.

The gain is roughly linear in the square root of the KL divergence (Bai et al. 2022; Gao et al. 2023), so that root is
the x-coordinate. Best-of-N is placed at its KL bound, log N - (N - 1) / N (Stiennon et al. 2020, appendix G).
"""

import math
from dataclasses import dataclass

from plaudit.evaluation.overoptimization import FittedCurve, fit_curve
from plaudit.reporting.logs import is_number
from plaudit.reporting.reading import Run


@dataclass(frozen=True)
class Point:
    """``x``: square root of the KL per response (in nats); ``y``: mean score; ``error``: standard error of ``y``."""

    label: str
    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True)
class RewardKl:
    """The figure for one reward source."""

    source: str
    trajectory: tuple[tuple[float, float], ...]
    models: tuple[Point, ...]
    best_of_n: tuple[Point, ...]

    @property
    def trajectory_fit(self) -> FittedCurve | None:
        """The curve of Gao et al. 2022, fitted to the iterations of reinforcement learning."""
        return fit_curve(self.trajectory, "rl")

    @property
    def best_of_n_fit(self) -> FittedCurve | None:
        """Their curve, fitted to best-of-N."""
        return fit_curve([(point.x, point.y) for point in self.best_of_n], "best_of_n")


def reward_kl(run: Run) -> list[RewardKl]:
    """One figure for each reward source that was measured together with a KL."""
    sources = dict.fromkeys([*run.summary.get("reward_sources", []), *run.trained_on, *run.watched])
    pictures = [RewardKl(name, _trajectory(run, name), _models(run, name), _best_of_n(run, name)) for name in sources]
    return [picture for picture in pictures if picture.trajectory or len(picture.models) > 1]


def _root(kl: float) -> float:
    # The sampled estimate of a KL near zero may be negative.
    return math.sqrt(max(kl, 0.0))


def _trajectory(run: Run, source: str) -> tuple[tuple[float, float], ...]:
    kl, reward = run.stage("rl").series("kl"), run.stage("rl").series(f"reward/{source}")
    distance = dict(zip(kl.steps, kl.values, strict=True))
    points = zip(reward.steps, reward.values, strict=True)
    return tuple((_root(distance[step]), value) for step, value in points if step in distance)


def _models(run: Run, source: str) -> tuple[Point, ...]:
    points = []
    for name, model in run.summary.get("models", {}).items():
        score = model.get("scores", {}).get(source, {})
        kl = model.get("kl", {}).get("mean")
        if is_number(score.get("mean")) and is_number(kl):
            points.append(Point(name, _root(kl), score["mean"], score.get("standard_error") or 0.0))
    return tuple(points)


def _best_of_n(run: Run, source: str) -> tuple[Point, ...]:
    entries = [entry for entry in run.summary.get("best_of_n") or [] if source in entry["scores"]]
    return tuple(Point(f"N = {entry['n']}", _root(entry["kl_bound"]), entry["scores"][source]) for entry in entries)
