"""Stages by name, and a stage of another package that a recipe's plugin registers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plaudit
from plaudit.api import StageCall
from plaudit.cli.main import main
from plaudit.config.load import load_recipe
from plaudit.config.schema import Recipe, ReportConfig
from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES, restart_command
from plaudit.reporting.page import write_report
from plaudit.runs.directory import RunDirectory

PLUGIN = '''
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plaudit.config.schema import Section
from plaudit.reporting.panels import Line, Panel
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.stages.base import Stage
from plaudit.registries.stages import STAGES


class CountConfig(Section):
    """Counting words."""

    file: str
    times: int = 2


class CountStage(Stage[CountConfig]):
    name = "count"
    title = "Counted words"
    help = "Count the words of a file."
    example = "plaudit run recipe.yaml --only count"
    headline = ("words", "words")

    def section(self) -> type[CountConfig]:
        return CountConfig

    def run(self, context: Any) -> dict[str, Any]:
        words = len(Path(context.config.file).read_text().split())
        with JsonLinesWriter(context.directory.metrics) as log:
            for step in range(context.config.times):
                log.append({"step": step, "words": words * step})
        return {"words": words}

    def panels(self, stage: Any, config: Mapping[str, Any]) -> Iterable[Panel]:
        yield Panel("Words so far", "words", (Line("words"),))


STAGES.register("count", CountStage(), before="evaluate")
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a plugin and a recipe that uses it; the stage is unregistered afterwards."""
    (tmp_path / "counting_plugin.py").write_text(PLUGIN)
    (tmp_path / "text.txt").write_text("one two three")
    (tmp_path / "r.yaml").write_text(
        f"name: words\noutput: {tmp_path}/runs\ndevice: cpu\nplugins: [counting_plugin]\n"
        f"count: {{file: {tmp_path}/text.txt}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("counting_plugin", None)
    if "count" in STAGES:
        STAGES.unregister("count")


def test_a_stage_of_a_plugin_runs_like_any_other(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plaudit", "run", "r.yaml", "count.times=3"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    run = RunDirectory(plugin / "runs/words")
    assert run.stage("count").result()["words"] == 3
    assert "times: 3" in run.configuration.read_text()
    page = write_report(run.folder, ReportConfig()).read_text()
    assert "Counted words" in page
    assert "Words so far" in page
    count: StageCall = getattr(plaudit.api, "count")  # noqa: B009 (type checkers do not know plugins' stages)
    assert count("r.yaml", "count.times=2", restart=True).folder == run.folder
    assert len(run.stage("count").metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "code, message",
    [
        ("raise KeyError('gone')", r"raised KeyError at counting_plugin\.py:\d+: 'gone'"),
        ("return 3", "returned a value of type int"),
    ],
)
def test_a_faulty_stage_of_a_plugin_is_named(plugin: Path, code: str, message: str) -> None:
    module = PLUGIN.replace("        words = len(", f"        {code}\n        words = len(")
    (plugin / "counting_plugin.py").write_text(module)
    with pytest.raises(PlauditError, match=rf"^count: CountStage\.run {message}"):
        plaudit.run("r.yaml")


def test_a_fault_of_a_built_in_stage_is_not_hidden(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plaudit.reporting.page.SECTIONS", None)
    with pytest.raises(TypeError):
        plaudit.run("r.yaml", "report={}")


def test_its_section_is_checked_like_any_other(plugin: Path) -> None:
    with pytest.raises(PlauditError, match=r"count.tims=3: unknown key; did you mean times\?"):
        load_recipe("r.yaml", ["count.tims=3"])
    with pytest.raises(PlauditError, match=r"count.times=many: expected a whole number"):
        load_recipe("r.yaml", ["count.times=many"])
    later = ["sft={model: m, data: {sources: ['stage:count/words.txt']}}"]
    with pytest.raises(PlauditError, match="count does not run before it; stages before sft: none"):
        load_recipe("r.yaml", later)
    assert STAGES.names[-3:] == ("count", "evaluate", "report")
    assert list(load_recipe("r.yaml", ["report={}"]).sections()) == ["count", "report"]


def test_the_schema_and_the_registry_name_the_same_stages_in_the_same_order() -> None:
    sections = [name for name in Recipe.model_fields if name in STAGES]
    assert sections == list(STAGES.names)
    assert all(STAGES[name].name == name for name in STAGES)
    for name in sections:
        assert Recipe.model_fields[name].annotation == STAGES[name].section() | None


def test_the_restart_command_restarts_only_one_stage() -> None:
    assert restart_command("rl") == "plaudit rl RECIPE OVERRIDES… --restart"
    assert restart_command("count") == "plaudit run RECIPE OVERRIDES… --only count --restart"
