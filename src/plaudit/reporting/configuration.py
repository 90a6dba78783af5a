"""What the run was made from and how long it took: timings, data, environment, configuration."""

from collections.abc import Mapping
from typing import Any

from plaudit.reporting.curves import STAGE_TITLES
from plaudit.reporting.markup import Html, definitions, details, join, scrolling, tag
from plaudit.reporting.numbers import ABSENT, duration, file_size, significant
from plaudit.reporting.reading import Run, is_number

ENVIRONMENT = ("started", "seed", "device", "processes", "threads", "cpu", "python", "platform", "git_revision")


def configuration(run: Run) -> Html | None:
    """Everything that is needed to understand or repeat the run, as far as its folder tells."""
    parts = [
        _part("Time per stage", _timings(run)),
        _part("Environment", _environment(run.metadata)),
        _part("Data", _data(run.metadata.get("data") or {})),
        details("Configuration", _code(run.config_text)) if run.config_text else None,
        _results(run),
    ]
    shown = [part for part in parts if part is not None]
    return join(shown) if shown else None


def _part(title: str, content: Html | None) -> Html | None:
    return None if content is None else join([tag("h3", title), content])


def _code(text: str) -> Html:
    return tag("pre", tag("code", text), tabindex="0")


def stage_seconds(run: Run) -> dict[str, float]:
    """Seconds that each stage took, from the metadata or else from the stage's own result."""
    recorded = run.metadata.get("stages") or {}
    found = {}
    for name, stage in run.stages.items():
        seconds = recorded.get(name, {}).get("seconds", stage.result.get("seconds"))
        if is_number(seconds):
            found[name] = float(seconds)
    return found


def _timings(run: Run) -> Html | None:
    seconds = stage_seconds(run)
    if not seconds:
        return None
    longest = max(seconds.values()) or 1.0
    rows = [_timing(STAGE_TITLES.get(name, name), value, value / longest) for name, value in seconds.items()]
    whole = duration(sum(seconds.values()))
    total = tag("tr", tag("th", "Total", scope="row"), tag("td", whole), tag("td"), class_="total")
    heads = tag("tr", tag("th", "Stage", scope="col"), tag("th", "Time", scope="col"), tag("td"))
    return tag("table", tag("thead", heads, class_="hidden"), tag("tbody", *rows, total), class_="timings")


def _timing(title: str, seconds: float, share: float) -> Html:
    bar = tag("div", class_="bar", style=f"width:{100 * share:.1f}%")
    return tag("tr", tag("th", title, scope="row"), tag("td", duration(seconds)), tag("td", bar, aria_hidden="true"))


def _environment(metadata: Mapping[str, Any]) -> Html | None:
    pairs = [(key.replace("_", " "), str(metadata[key])) for key in ENVIRONMENT if metadata.get(key) is not None]
    pairs += [(package, str(version)) for package, version in (metadata.get("versions") or {}).items()]
    return definitions(pairs, "facts") if pairs else None


def _data(files: Mapping[str, Mapping[str, Any]]) -> Html | None:
    if not files:
        return None
    heads = [tag("th", name, scope="col") for name in ("File", "Size", "SHA-256")]
    rows = [
        tag(
            "tr",
            tag("th", tag("code", path), scope="row"),
            tag("td", file_size(facts["bytes"]) if is_number(facts.get("bytes")) else ABSENT),
            tag("td", tag("code", str(facts.get("sha256", ABSENT)))),
        )
        for path, facts in files.items()
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="files")
    return scrolling(table, "Data files")


def _results(run: Run) -> Html | None:
    """The numbers that each finished stage has left; tables among them have a place of their own in the page."""
    lists = []
    for name, stage in run.stages.items():
        pairs = [(key, _value(value)) for key, value in stage.result.items() if not isinstance(value, list)]
        if pairs:
            lists += [tag("h4", STAGE_TITLES.get(name, name)), definitions(pairs, "facts")]
    return details("What each stage returned", *lists) if lists else None


def _value(value: object) -> str:
    if isinstance(value, float) and is_number(value):
        return significant(value)
    return str(value)
