"""The page: well-formed, self-contained, escaped, complete, and the same bytes every time."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from plaudit.config.schema import ReportConfig
from plaudit.reporting.configuration import stage_seconds
from plaudit.reporting.numbers import ABSENT, THIN_SPACE
from plaudit.reporting.page import write_report
from plaudit.reporting.reading import read_run
from plaudit.reporting.rendering import render
from report_runs import make_summary, write_lines, write_object, write_run, write_small_run

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects what must be true of every page; fails if tags do not match."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value) for key, value in attrs]
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def check(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    links = [value for _, key, value in checker.attributes if key in ("href", "src", "xlink:href", "srcset", "data")]
    assert all(link and link.startswith("#") and link[1:] in checker.ids for link in links)
    assert "script" not in {tag for tag, _, _ in checker.attributes}
    assert not re.search(r"https?://|@import|<script|<link", text)
    assert all(name == "none" or name.startswith("#") for name in re.findall(r"url\(([^)]*)\)", text))
    return checker


def written(folder: Path, config: ReportConfig | None = None) -> str:
    path = write_report(folder, config or ReportConfig())
    assert path == folder / "report" / "report.html"
    return path.read_text(encoding="utf-8")


def test_control_characters_of_texts_are_escaped(tmp_path: Path) -> None:
    text = written(write_run(tmp_path / "run"), ReportConfig(title="a\x1b]0;b\x00\u202e", note="tab\tline\nend"))
    assert r"a\x1b]0;b\x00\u202e" in text
    assert "tab\tline\nend" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def rows_of(text: str) -> list[str]:
    """Return the table rows of a page, without the line breaks between tags."""
    return re.findall(r"<tr.*?</tr>", re.sub(r">\s+<", "><", text))


def test_a_whole_run(tmp_path: Path) -> None:
    text = written(write_run(tmp_path / "run"))
    checker = check(text)
    assert len(text.encode()) < 2_000_000
    sections = [value for tag, key, value in checker.attributes if tag == "section" and key == "id"]
    assert sections == ["result", "samples", "training", "reward-kl", "reward-model", "configuration"]
    shown = "".join(checker.text)
    for piece in (
        "0.523",
        "0.914",
        "± 0.012",
        "[91, 97]",
        "12.25",
        "27.9",
        "0.541",
        "Good evening, Ms Okafor.",
        "a3" * 32,
    ):
        assert piece in shown
    for name in ("2.13.0", "Example CPU, 2 cores", "target: 6.0", "Reinforcement learning", "cpu"):
        assert name in shown


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_small_run(tmp_path / "run")
    first = written(folder)
    assert written(folder) == first


def test_the_best_mark_is_in_the_right_cell(tmp_path: Path) -> None:
    text = written(write_small_run(tmp_path / "run"))
    row = next(row for row in rows_of(text) if '<th scope="row">gold<' in row)
    cells = re.findall(r"<td.*?</td>", row)
    assert ["●" in cell for cell in cells] == [False, False, True]
    assert "0.914" in cells[2]


def with_measured_accuracy(folder: Path) -> Path:
    write_small_run(folder)
    rows = [{"step": step, "held_out/accuracy": 0.5 + step / 500} for step in (0, 160)]
    write_lines(folder / "reward" / "metrics.jsonl", rows)
    return folder


def test_the_reward_models_accuracy_is_shown_next_to_the_baselines(tmp_path: Path) -> None:
    text = written(with_measured_accuracy(tmp_path / "run"))
    section = text[text.index('<section id="reward-model"') : text.index('<section id="configuration"')]
    cells = [re.findall(r">([^<>]+)<", row.replace(THIN_SPACE, "")) for row in rows_of(section)[1:]]
    assert cells == [
        ["reward model", "82.3%", "[78.3, 85.8]"],
        ["fewer tokens", "51.4%", "[47.4, 54.9]"],
        ["more characters", "50.6%", "[46.6, 54.1]"],
        ["bag of words", "66.8%", "[62.8, 70.3]"],
    ]
    assert 'style="left:78.3%;width:7.5%"' in section
    assert "baselines learn from 20000 of the same rows" in section
    assert "mean 0 and variance 1 on 4096 training responses" in section
    assert "held-out accuracy" not in section, "the number is already in the table"


def test_a_run_of_only_the_reward_model_begins_with_its_interval(tmp_path: Path) -> None:
    folder = with_measured_accuracy(tmp_path / "run")
    for stage in ("pretrain", "sft", "rl", "evaluate"):
        shutil.rmtree(folder / stage)
    line = "95 % [78, 86]; fewer tokens 51 %; more characters 51 %; bag of words 67 %"
    assert line in written(folder).replace(THIN_SPACE, " ")


def test_without_a_judgement_the_last_measurement_is_shown(tmp_path: Path) -> None:
    folder = with_measured_accuracy(tmp_path / "run")
    write_object(folder / "reward" / "result.json", {"steps": 120})
    section = written(folder).split('<section id="reward-model"')[1]
    assert "held-out accuracy" in section
    assert "Reliability" not in section
    assert "bag of words" not in section


def test_text_is_escaped(tmp_path: Path) -> None:
    summary = make_summary()
    hostile = "</p><script>alert(1)</script><img src=x onerror='alert(2)'> & \"quotes\""
    summary["samples"] = [{"prompt": hostile, "responses": {hostile: {"text": hostile, "scores": {hostile: 1.0}}}}]
    summary["models"][hostile] = summary["models"].pop("ppo")
    folder = write_small_run(tmp_path / "run")
    write_object(folder / "evaluate" / "summary.json", summary)
    row = {"step": 1, "prompt": hostile, "response": hostile, "scores": {hostile: 1}}
    write_lines(folder / "rl" / "samples.jsonl", [row])
    metrics = [{"step": step, "kl": 1.0, f"reward/{hostile}": 1.0} for step in (1, 2)]
    write_lines(folder / "rl" / "metrics.jsonl", metrics)
    (folder / "config.yaml").write_text(f"name: {json.dumps(hostile)}", encoding="utf-8")
    checker = check(written(folder, ReportConfig(title=hostile, note=hostile)))
    assert "img" not in {tag for tag, _, _ in checker.attributes}
    assert checker.text.count(hostile) >= 6


def test_title_and_note(tmp_path: Path) -> None:
    text = written(write_small_run(tmp_path / "run"), ReportConfig(title="A better concierge", note="Five minutes."))
    assert "<h1>A better concierge</h1>" in text
    assert "Five minutes." in text
    assert "<h1>concierge</h1>" in written(tmp_path / "run")


def test_simulated_runs_say_so_at_the_top_and_at_the_samples(tmp_path: Path) -> None:
    folder = write_small_run(tmp_path / "run")
    text = written(folder)
    assert text.index("annotators are simulated") < text.index('id="result"')
    samples = text[text.index('<section id="samples"') : text.index('<section id="training"')]
    assert "annotators are simulated" in samples
    write_object(folder / "evaluate" / "summary.json", {**make_summary(), "simulated": False})
    assert "simulated" not in written(folder)


def without_evaluation(folder: Path) -> None:
    shutil.rmtree(folder / "evaluate")


def without_training(folder: Path) -> None:
    for stage in ("pretrain", "sft", "reward", "rl"):
        shutil.rmtree(folder / stage)


def without_papers(folder: Path) -> None:
    (folder / "metadata.json").unlink()
    (folder / "config.yaml").unlink()
    for result in folder.glob("*/result.json"):
        result.unlink()


def without_curves_and_samples(folder: Path) -> None:
    for path in [*folder.glob("*/metrics.jsonl"), *folder.glob("*/samples.jsonl")]:
        path.unlink()


def without_everything(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


ALL = {"result", "samples", "training", "reward-kl", "reward-model", "configuration"}


@pytest.mark.parametrize(
    "remove, missing",
    [
        (without_evaluation, {"samples"}),
        (without_training, {"training", "reward-model"}),
        (without_papers, {"configuration"}),
        (without_curves_and_samples, {"training"}),
        (without_everything, ALL),
    ],
)
def test_missing_parts_are_left_out(tmp_path: Path, remove: Callable[[Path], None], missing: set[str]) -> None:
    folder = write_small_run(tmp_path / "run")
    remove(folder)
    checker = check(written(folder))
    assert {value for tag, key, value in checker.attributes if tag == "section" and key == "id"} == ALL - missing


def test_a_toxicity_meter_is_shown(tmp_path: Path) -> None:
    folder = write_small_run(tmp_path / "run")
    measure = {"definition": "1 - product of (1 - p) over a, b (sigmoid)", "classifier": "c", "prompts_used": "4 of 9"}
    summary = {
        **make_summary(),
        "prompts_used": "40 of 400 prompts",
        "toxicity": {"sft": {"mean": 0.0871, "share": 0.1}, "ppo": {"mean": 0.0123}},
        "toxicity_measure": measure,
    }
    write_object(folder / "evaluate" / "summary.json", summary)
    text = written(folder)
    check(text)
    sft, ppo = (
        re.findall(r"<td>(.*?)</td>", row) for row in rows_of(text.split('id="toxicity"')[1].split("</section>")[0])[1:]
    )
    assert sft == ["0.0871", "0.100"]
    assert ppo == ["0.0123", ABSENT]
    assert "1 - product of (1 - p) over a, b (sigmoid); c; 4 of 9" in text
    assert "answered the same prompts: 40 of 400 prompts." in text


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    text = written(write_run(tmp_path / "run", iterations=20_000))
    assert len(text.encode()) < 2_000_000


def test_seconds_come_from_the_metadata_or_the_stage(tmp_path: Path) -> None:
    write_object(tmp_path / "metadata.json", {"stages": {"sft": {"seconds": 20.0}}})
    write_object(tmp_path / "sft" / "result.json", {"seconds": 99.0})
    write_object(tmp_path / "rl" / "result.json", {"seconds": 30})
    assert stage_seconds(read_run(tmp_path)) == {"sft": 20.0, "rl": 30.0}


def test_templates_escape_text_and_refuse_missing_values() -> None:
    rows = [("<b>", {"a": 0.5})]
    assert '<th scope="row">&lt;b&gt;</th>' in render("toxicity.html", columns=["a"], rows=rows, measure="")
    with pytest.raises(UndefinedError, match="columns"):
        render("toxicity.html", rows=rows)


def test_notes_on_the_data_are_on_the_page(tmp_path: Path) -> None:
    write_small_run(tmp_path)
    (tmp_path / "sft").mkdir(exist_ok=True)
    write_object(tmp_path / "sft" / "notes.json", {"notes": ["the 8 rows have <2 prompts"]})
    assert "the 8 rows have &lt;2 prompts." in write_report(tmp_path, ReportConfig()).read_text(encoding="utf-8")
