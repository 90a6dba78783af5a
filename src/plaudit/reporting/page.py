"""One self-contained HTML page about a run: the result first, then how it was reached, then data and configuration."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from plaudit.config.schema import ReportConfig
from plaudit.log import visible
from plaudit.reporting.configuration import configuration
from plaudit.reporting.curves import reward_against_kl, training
from plaudit.reporting.examples import samples
from plaudit.reporting.reading import Run, read_run
from plaudit.reporting.rendering import render
from plaudit.reporting.result import result, toxicity
from plaudit.reporting.reward_model import reward_model
from plaudit.runs.directory import RunDirectory

View = Mapping[str, Any]

SECTIONS: tuple[tuple[str, str, Callable[[Run], View | None]], ...] = (
    ("result", "Result", result),
    ("samples", "Samples", samples),
    ("toxicity", "Toxicity", toxicity),
    ("training", "Training", training),
    ("reward-kl", "Reward against KL", reward_against_kl),
    ("reward-model", "Reward model", reward_model),
    ("configuration", "Data and configuration", configuration),
)
"""Anchor, title and view of each section, in order.

A view returns the values of the template ``templates/ANCHOR.html``, or None if the run has nothing to show there.
"""


def write_report(run_folder: Path, config: ReportConfig) -> Path:
    """Write the page about a run from the files in its folder, and return its path: ``report/report.html``.

    Raises:
        PlauditError: the folder is missing, or one of its files is damaged.
    """
    path = RunDirectory(run_folder).stage("report").folder / "report.html"
    text = page(read_run(run_folder), config)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(visible(text), encoding="utf-8")
    return path


def page(run: Run, config: ReportConfig) -> str:
    """Return the whole page. The same run gives the same bytes."""
    views = [(anchor, title, make(run)) for anchor, title, make in SECTIONS]
    sections = [
        {"anchor": anchor, "title": title, "content": section(anchor, view)}
        for anchor, title, view in views
        if view is not None
    ]
    style = resources.files("plaudit.reporting").joinpath("report.css").read_text(encoding="utf-8")
    title = config.title or run.name
    return render("page.html", run=run, title=title, note=config.note, style=Markup(style), sections=sections)


def section(anchor: str, view: View) -> Markup:
    """Render one section's template with the values of its view."""
    return render(f"{anchor}.html", **view)
