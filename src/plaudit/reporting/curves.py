"""The sections with figures: training curves, reward against KL."""

from collections.abc import Iterator, Sequence

from plaudit.reporting.examples import training_samples
from plaudit.reporting.figures import COLOURS, SERIES_COLOURS, curve_figure, curve_label, reward_kl_figure, svg
from plaudit.reporting.markup import Html, join, scrolling, tag
from plaudit.reporting.numbers import MINUS, fixed, significant
from plaudit.reporting.panels import Panel, panels
from plaudit.reporting.reading import Run, Stage
from plaudit.reporting.reward_kl import RewardKl, reward_kl

STAGE_TITLES = {
    "world": "World",
    "pretrain": "Pre-training",
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "dpo": "Direct preference optimisation",
    "rl": "Reinforcement learning",
    "evaluate": "Evaluation",
}
HOW_TO_READ = (
    "Thin: each step. Thick: moving average over a tenth of the steps; its last value is written at its end. "
    "The axes leave out the outermost percent of single steps."
)


def training(run: Run) -> Html | None:
    """Curves of the stages that train a language model, the last stage first."""
    parts = [_stage_curves(run, run.stage(name)) for name in ("rl", "dpo", "sft", "pretrain")]
    shown = [part for part in parts if part is not None]
    return join([tag("p", HOW_TO_READ, class_="caption"), *shown]) if shown else None


def _stage_curves(run: Run, stage: Stage) -> Html | None:
    grid = curve_grid(run, stage)
    texts = training_samples(stage)
    if grid is None and texts is None:
        return None
    return join([tag("h3", STAGE_TITLES[stage.name]), grid, texts])


def curve_grid(run: Run, stage: Stage) -> Html | None:
    """All panels of a stage for which it has data."""
    figures = [_panel(stage, panel, f"{stage.name}-{index}") for index, panel in enumerate(panels(stage, run.config))]
    return tag("div", *figures, class_="grid") if figures else None


def _panel(stage: Stage, panel: Panel, identifier: str) -> Html:
    labelled = zip(panel.lines, SERIES_COLOURS, strict=False) if len(panel.lines) > 1 else ()
    key = [tag("span", line.label, class_=f"key {COLOURS[colour]}") for line, colour in labelled]
    unit = tag("small", panel.unit) if panel.unit else None
    drawing = svg(curve_figure(stage, panel), identifier, curve_label(stage, panel))
    return tag("figure", tag("figcaption", tag("b", panel.title), unit, _keys(key)), drawing)


def _keys(keys: Sequence[Html]) -> Html | None:
    return tag("span", *keys, class_="keys") if keys else None


def reward_against_kl(run: Run) -> Html | None:
    """What was gained for the distance from the reference, next to best-of-N at its KL bound."""
    pictures = reward_kl(run)
    if not pictures:
        return None
    figures = [_picture(picture, f"reward-kl-{index}") for index, picture in enumerate(pictures)]
    words = tag("p", _how_to_read(pictures), class_="caption")
    return join([words, tag("div", *figures, class_="grid wide"), _best_of(run)])


def _how_to_read(pictures: Sequence[RewardKl]) -> str:
    words = ["Score against the square root of the KL to the reference."]
    if any(picture.trajectory for picture in pictures):
        words.append("Line: reinforcement learning, on training prompts; small dots are its rounds.")
    if any(picture.models for picture in pictures):
        words.append("Large dots: the models on held-out prompts, with 95 % intervals.")
    if any(picture.best_of_n for picture in pictures):
        words.append(f"Dashed: best of N samples, at the bound log N {MINUS} (N {MINUS} 1) / N of its KL.")
    if any(picture.trajectory_fit or picture.best_of_n_fit for picture in pictures):
        words.append(
            f"Thin: the fitted curves of Gao et al. 2022, d(a {MINUS} b log d) for reinforcement learning and "
            f"d(a {MINUS} bd) for best of N."
        )
    return " ".join([*words, *_peaks(pictures)])


def _peaks(pictures: Sequence[RewardKl]) -> Iterator[str]:
    """Say of each score where its fitted curve turns down, if it does."""
    for picture in pictures:
        for fit, what in ((picture.trajectory_fit, "reinforcement learning"), (picture.best_of_n_fit, "best of N")):
            if fit and fit.peak is not None:
                yield f"{picture.source} peaks at √KL {significant(fit.peak)} under {what} (triangle)."


def _picture(picture: RewardKl, identifier: str) -> Html:
    models = [f"{point.label} {significant(point.y)} at √KL {significant(point.x)}" for point in picture.models]
    label = f"{picture.source} against the square root of the KL to the reference. {'; '.join(models)}".strip()
    key = [
        tag("span", name, class_=f"key {colour}")
        for name, colour, shown in (
            ("reinforcement learning", "first", picture.trajectory),
            ("best of N", "second", picture.best_of_n),
            ("models", "ink", picture.models),
        )
        if shown
    ]
    drawing = svg(reward_kl_figure(picture), identifier, label)
    return tag("figure", tag("figcaption", tag("b", picture.source), _keys(key)), drawing)


def _best_of(run: Run) -> Html | None:
    entries = run.summary.get("best_of_n") or []
    if not entries:
        return None
    sources = list(entries[0]["scores"])
    heads = [tag("th", name, scope="col") for name in ("best of", "KL bound (nats)", *sources)]
    rows = [
        tag(
            "tr",
            tag("th", str(entry["n"]), scope="row"),
            tag("td", fixed(entry["kl_bound"], 2)),
            *(tag("td", fixed(entry["scores"][source], 3)) for source in sources),
        )
        for entry in entries
    ]
    return scrolling(tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), "Best of N")
