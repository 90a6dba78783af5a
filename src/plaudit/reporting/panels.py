"""Which curves a stage shows, in which order and in which units. Panels without data are left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plaudit.registries.stages import STAGES
from plaudit.reporting.logs import is_number
from plaudit.reporting.reading import StageFiles


@dataclass(frozen=True)
class Line:
    """One metric in a panel. ``label`` distinguishes it from the others; empty if it is the only one."""

    metric: str
    label: str = ""


@dataclass(frozen=True)
class Level:
    """A horizontal line for comparison."""

    value: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One small figure: metrics of the same unit over the steps.

    ``spread`` names a metric that is drawn as a band around the first line. ``exact`` values were set, not measured, so
    they are not smoothed. The axis does not go below ``lowest``.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    level: Level | None = None
    spread: str | None = None
    exact: bool = False
    lowest: float | None = None


CHANCE = Level(0.5, "chance")


def panels(stage: StageFiles, config: Mapping[str, Any]) -> list[Panel]:
    """The panels of a stage for which it has data. ``config`` is the run's whole configuration."""
    planned = STAGES[stage.name].panels(stage, config.get(stage.name) or {})
    return [shown for panel in planned if (shown := _with_data(panel, stage)).lines]


def _with_data(panel: Panel, stage: StageFiles) -> Panel:
    lines = tuple(line for line in panel.lines if len(stage.series(line.metric)))
    spread = panel.spread if panel.spread and len(stage.series(panel.spread)) else None
    return replace(panel, lines=lines, spread=spread)


def reinforcement_panels(stage: StageFiles, config: Mapping[str, Any]) -> Iterator[Panel]:
    """Rewards, KL, entropy, losses and lengths of reinforcement learning."""
    sources = [name for name in stage.metric_names("reward") if name not in ("mean", "std")]
    held_out = stage.metric_names("held_out")
    for source in [*sources, *(name for name in held_out if name not in sources)]:
        lines = (Line(f"reward/{source}", "training prompts"), Line(f"held_out/{source}", "held out"))
        yield Panel(f"Reward: {source}", "score", lines)
    yield Panel("Total reward", "mean ± one standard deviation", (Line("reward/mean"),), spread="reward/std")
    yield Panel("KL to the reference", "nats per response", (Line("kl"),), _kl_level(config.get("kl") or {}))
    yield Panel("KL coefficient", "reward per nat", (Line("kl_coefficient"),), exact=True)
    yield Panel("Entropy", "nats per token", (Line("entropy"),))
    yield Panel("Policy loss", "", (Line("policy_loss"),))
    yield Panel("Value loss", "", (Line("value_loss"),))
    yield Panel("Explained variance", "of the returns, by the value model", (Line("explained_variance"),), lowest=-1)
    yield Panel("Response length", "tokens", (Line("response_length"),))
    yield Panel("Ended responses", "fraction that ended by themselves", (Line("ended_fraction"),))
    yield Panel(
        "Clipped", "fraction of tokens", (Line("clip_fraction", "policy"), Line("value_clip_fraction", "value"))
    )
    yield Panel("Policy change per iteration", "approximate KL, nats per token", (Line("approximate_kl"),))
    yield Panel("Largest policy ratio", "", (Line("ratio/max"),))
    yield from _optimizer()


def _kl_level(config: Mapping[str, Any]) -> Level | None:
    target = config.get("target")
    return Level(target, "target") if is_number(target) else None


def reward_model_panels() -> Iterator[Panel]:
    """Accuracy, loss, margin and calibration of a reward model."""
    yield Panel("Accuracy", "fraction of pairs ordered as by the annotators", _both("accuracy"), CHANCE)
    yield Panel("Loss", "nats per comparison", _both("loss"))
    yield Panel("Margin", "score of the better response minus the worse", _both("margin"))
    calibration = (Line("held_out/calibration_error"),)
    yield Panel("Calibration error", "predicted against observed probability, held out", calibration)
    yield from _optimizer()


def preference_panels() -> Iterator[Panel]:
    """Accuracy, loss, implicit rewards and drift of direct preference optimization."""
    yield Panel("Accuracy", "fraction of pairs ordered correctly by the implicit reward", _both("accuracy"), CHANCE)
    yield Panel("Loss", "per prompt", _both("loss"))
    yield Panel("Margin", "implicit reward of the better response minus the worse", _both("margin"))
    rewards = (Line("held_out/chosen_reward", "better"), Line("held_out/rejected_reward", "worse"))
    yield Panel("Implicit rewards", "held out", rewards)
    chosen = _both("chosen_log_probability")
    yield Panel("Log-probability of the best responses", "nats per token", chosen)
    yield Panel("Drift", "loss of log-probability on the data, nats per token", _both("drift"))
    yield Panel("KL estimate of KTO", "nats per response", _both("reference_kl"))
    yield from _optimizer()


def language_model_panels() -> Iterator[Panel]:
    """Loss, perplexity and token accuracy of a language model."""
    yield Panel("Loss", "nats per token", _both("loss"))
    yield Panel("Perplexity", "held out, per token", (Line("held_out/perplexity"),))
    yield Panel("Token accuracy", "held out, fraction", (Line("held_out/accuracy"),))
    yield from _optimizer()


def _both(metric: str) -> tuple[Line, ...]:
    return Line(metric, "training"), Line(f"held_out/{metric}", "held out")


def _optimizer() -> Iterator[Panel]:
    yield Panel("Gradient norm", "before clipping", (Line("gradient_norm"),))
    yield Panel("Learning rate", "", (Line("learning_rate"),), exact=True)
