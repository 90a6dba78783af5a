"""One self-contained HTML page about a run: the result first, then how it came about, then what it was made from."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from plaudit.config.schema import ReportConfig
from plaudit.reporting.configuration import configuration
from plaudit.reporting.curves import reward_against_kl, training
from plaudit.reporting.examples import samples
from plaudit.reporting.markup import Html, join, tag
from plaudit.reporting.reading import Run, read_run
from plaudit.reporting.result import result, toxicity
from plaudit.reporting.reward_model import reward_model

SECTIONS: tuple[tuple[str, str, Callable[[Run], Html | None]], ...] = (
    ("result", "Result", result),
    ("samples", "Samples", samples),
    ("toxicity", "Toxicity", toxicity),
    ("training", "Training", training),
    ("reward-kl", "Reward against KL", reward_against_kl),
    ("reward-model", "Reward model", reward_model),
    ("configuration", "Data and configuration", configuration),
)


def write_report(run_folder: Path, config: ReportConfig) -> Path:
    """Write the page about a run from the files in its folder, and return its path: ``report/report.html``.

    Raises:
        PlauditError: the folder is missing, or one of its files is damaged.
    """
    path = run_folder / "report" / "report.html"
    text = page(read_run(run_folder), config)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def page(run: Run, config: ReportConfig) -> str:
    """The whole page. The same run gives the same bytes."""
    made = [(anchor, name, content) for anchor, name, make in SECTIONS if (content := make(run)) is not None]
    title = config.title or run.name
    sections = (_section(anchor, name, content) for anchor, name, content in made)
    links = (tag("a", name, href=f"#{anchor}") for anchor, name, _ in made)
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", config.note, class_="note") if config.note else None, _simulated(run)),
        tag("nav", *links, aria_label="Contents") if made else None,
        tag("main", *sections) if made else tag("main", tag("p", "This run has left nothing to report yet.")),
        tag("footer", tag("p", f"Run {run.name}, reported by Plaudit.")),
    )
    return "<!doctype html>\n" + tag("html", _head(title), body, lang="en") + "\n"


def _head(title: str) -> Html:
    style = resources.files("plaudit.reporting").joinpath("report.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · Plaudit"),
        tag("style", Html(style)),
    )


def _simulated(run: Run) -> Html | None:
    if not run.simulated:
        return None
    words = "The texts of this run are made by code, and its annotators are simulated: no person wrote or judged them."
    return tag("p", tag("strong", "Simulated. "), words, class_="notice", role="note")


def _section(anchor: str, name: str, content: Html) -> Html:
    # The headline speaks for itself; its heading is for those who listen to the page.
    heading = tag("h2", name, id=f"{anchor}-heading", class_="hidden" if anchor == "result" else None)
    return tag("section", join([heading, content]), id=anchor, aria_labelledby=f"{anchor}-heading")
