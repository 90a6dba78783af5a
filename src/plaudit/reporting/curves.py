"""The sections with figures: training curves, reward against KL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from plaudit.registries.stages import STAGES
from plaudit.reporting.drawing import COLOURS, SERIES_COLOURS, svg
from plaudit.reporting.examples import Progress, training_samples
from plaudit.reporting.figures import curve_figure, curve_label, reward_kl_figure
from plaudit.reporting.numbers import MINUS, significant
from plaudit.reporting.panels import Panel, panels
from plaudit.reporting.reading import Run, StageFiles
from plaudit.reporting.reward_kl import RewardKl, reward_kl


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption. ``keys`` are the labels of its lines with their colors' names."""

    title: str
    unit: str
    keys: tuple[tuple[str, str], ...]
    drawing: Markup


@dataclass(frozen=True)
class StageCurves:
    """The curves of one stage, and its responses during training."""

    title: str
    figures: list[Figure]
    progress: list[Progress]


def training(run: Run) -> Mapping[str, Any] | None:
    """Curves of all stages but those that train a reward model, the last stage first."""
    stages = [run.stage(name) for name in reversed(STAGES.names) if STAGES[name].makes != "reward model"]
    curves = [
        StageCurves(STAGES[stage.name].title, curve_grid(run, stage), training_samples(stage)) for stage in stages
    ]
    shown = [stage for stage in curves if stage.figures or stage.progress]
    return {"stages": shown} if shown else None


def curve_grid(run: Run, stage: StageFiles) -> list[Figure]:
    """All panels of a stage for which it has data."""
    return [_panel(stage, panel, f"{stage.name}-{index}") for index, panel in enumerate(panels(stage, run.config))]


def _panel(stage: StageFiles, panel: Panel, identifier: str) -> Figure:
    labeled = zip(panel.lines, SERIES_COLOURS, strict=False) if len(panel.lines) > 1 else ()
    keys = tuple((line.label, COLOURS[color]) for line, color in labeled)
    drawing = svg(curve_figure(stage, panel), identifier, curve_label(stage, panel))
    return Figure(panel.title, panel.unit, keys, drawing)


def reward_against_kl(run: Run) -> Mapping[str, Any] | None:
    """Reward against the distance from the reference, compared with best-of-N at its KL bound."""
    pictures = reward_kl(run)
    if not pictures:
        return None
    best_of_n = run.summary.get("best_of_n") or []
    return {
        "how_to_read": _how_to_read(pictures),
        "pictures": [_picture(picture, f"reward-kl-{index}") for index, picture in enumerate(pictures)],
        "best_of_n": best_of_n,
        "sources": list(best_of_n[0]["scores"]) if best_of_n else [],
    }


def _how_to_read(pictures: Sequence[RewardKl]) -> str:
    words = ["Score against the square root of the KL to the reference."]
    if any(picture.trajectory for picture in pictures):
        words.append("Solid line: reinforcement learning on training prompts; each small dot is one iteration.")
    if any(picture.models for picture in pictures):
        words.append("Large dots: the models on held-out prompts, with 95 % intervals.")
    if any(picture.best_of_n for picture in pictures):
        words.append(f"Dashed line: best of N samples, placed at the KL bound log N {MINUS} (N {MINUS} 1) / N.")
    if any(picture.trajectory_fit or picture.best_of_n_fit for picture in pictures):
        words.append(
            f"Thin lines: fitted curves of Gao et al. 2022, d(a {MINUS} b log d) for reinforcement learning and "
            f"d(a {MINUS} bd) for best of N."
        )
    return " ".join([*words, *_peaks(pictures)])


def _peaks(pictures: Sequence[RewardKl]) -> Iterator[str]:
    """Yield, for each score, where its fitted curve peaks, if it does."""
    for picture in pictures:
        for fit, what in ((picture.trajectory_fit, "reinforcement learning"), (picture.best_of_n_fit, "best of N")):
            if fit and fit.peak is not None:
                yield f"With {what}, {picture.source} peaks at √KL {significant(fit.peak)} (triangle)."


def _picture(picture: RewardKl, identifier: str) -> Figure:
    models = [f"{point.label} {significant(point.y)} at √KL {significant(point.x)}" for point in picture.models]
    label = f"{picture.source} against the square root of the KL to the reference. {'; '.join(models)}".strip()
    keys = tuple(
        (name, color)
        for name, color, shown in (
            ("reinforcement learning", "first", picture.trajectory),
            ("best of N", "second", picture.best_of_n),
            ("models", "ink", picture.models),
        )
        if shown
    )
    return Figure(picture.source, "", keys, svg(reward_kl_figure(picture), identifier, label))
