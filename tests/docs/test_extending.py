"""The modules in the documentation of extensions run as printed, as plugins of a recipe."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
import yaml

from pages import DOCS, anchors, examples
from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES, AdvantageEntry
from plaudit.algorithms.estimators import AdvantageInputs
from plaudit.config.load import load_recipe
from plaudit.config.schema import REWARD_KINDS, Recipe, SourceConfig
from plaudit.config.schema.distribution import STRATEGIES, StrategyConfig
from plaudit.config.schema.engines import ENGINES
from plaudit.data.formats.registry import FORMATS
from plaudit.data.readers import READERS
from plaudit.data.rows.registry import ROW_KINDS
from plaudit.data.sources import SourceRows, read_source
from plaudit.errors import PlauditError
from plaudit.parallel.strategy import check_strategy
from plaudit.registries.layouts import LAYOUTS
from plaudit.registries.stages import STAGES
from plaudit.runner import run
from plaudit.runs.jsonl import read_json_lines
from plaudit.training.losses import load_estimator
from tiny_runs import tiny_recipe

PAGE = DOCS / "extending.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILE_NAME = re.compile(r"# (\w+)\.py\n")
REGISTRIES = (STAGES, REWARD_KINDS, ENGINES, FORMATS, READERS, ROW_KINDS, LAYOUTS, STRATEGIES)


def modules(page: Path) -> dict[str, str]:
    """Return the code of a page's blocks that begin with a file name, by the name of the module."""
    return {name[1]: example.code for example in examples(page) if (name := FILE_NAME.match(example.code)) is not None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a small recipe and all modules of the pages; what they register is removed afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = modules(PAGE) | modules(DOCS / "algorithms/rewards.md")
    for name, text in code.items():
        (tmp_path / f"{name}.py").write_text(text)
    known = [(registry, set(registry.names)) for registry in REGISTRIES]
    catalogues: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (ADVANTAGES, dict(ADVANTAGES)),
        (POLICY_LOSSES, dict(POLICY_LOSSES)),
    ]
    yield tmp_path
    for registry, names in known:
        for name in set(registry.names) - names:
            registry.unregister(name)
    for catalogue, entries in catalogues:
        catalogue.clear()
        catalogue.update(entries)
    for name in code:
        sys.modules.pop(name, None)


def recipe_with_plugins(folder: Path, **changes: Any) -> str:
    path = tiny_recipe(folder, plugins=list(modules(PAGE)), **changes)
    return str(path)


def test_every_block_is_a_module_or_says_that_it_is_a_fragment() -> None:
    assert len(modules(PAGE)) == len(examples(PAGE)) >= 9
    fragments = re.findall(r"^(.*)\n\n```py\n", TEXT, re.MULTILINE)
    assert len(fragments) == TEXT.count("```py\n")
    for line in fragments:
        found = re.fullmatch(r"Fragment; the whole class is in `(tests/[\w/]+\.py)`:", line)
        assert found is not None, line
        assert (DOCS.parent / found[1]).exists()


def test_the_contents_list_all_sections_in_order() -> None:
    listed = re.findall(r"\]\(#([\w-]+)\)", TEXT.split("\n## ")[0])
    sections = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert listed == [section.lower().replace(" ", "-") for section in sections]
    assert set(listed) <= anchors(PAGE)


def test_a_run_with_all_of_them(folder: Path) -> None:
    (folder / "words.txt").write_text("one two three")
    rewards = [{"name": "short", "kind": "brevity", "limit": 1, "weight": 2}]
    path = recipe_with_plugins(folder, count={"file": "words.txt"}, rl__rewards=rewards, rl__value_model=None)
    settings = ["rl.generation.engine={kind: fixed, text: good w1 w2}", "rl.advantages=median", "rl.iterations=1"]
    settings += ["rl.policy_loss=one_sided", "rl.responses_per_prompt=2", "rl.scale_rewards=false"]
    recipe = load_recipe(path, settings)
    with pytest.raises(PlauditError, match=r"rl\.gae_lambda"):
        load_recipe(path, [*settings, "rl.gae_lambda=0.9"])
    done = run(recipe, ["pretrain", "sft", "rl", "count"])
    assert json.loads((done / "count/result.json").read_text())["words"] == 3
    samples = read_json_lines(done / "rl/samples.jsonl")
    assert {line["response"] for line in samples} == {"good w1 w2"}
    last = read_json_lines(done / "rl/metrics.jsonl")[-1]
    assert {value for key, value in last.items() if key.endswith("used_fraction")} == {0.0}, "all responses are equal"
    assert {line["scores"]["short"] for line in samples} == {-2.0}


def test_the_reader_yields_records_and_names_bad_lines(folder: Path) -> None:
    load_recipe(recipe_with_plugins(folder))
    (folder / "rows.arrows").write_text("a => b\nc\nd =>  e\n")
    read: SourceRows[Any] = read_source(SourceConfig(path="rows.arrows"))
    assert [(row.prompt, row.responses) for row in read.rows] == [("a", ("b",)), ("d", (" e",))]
    assert [(reject.origin.line, reject.reason) for reject in read.rejects] == [(2, "no arrow")]


def test_the_format_reads_rows_and_refuses_others(folder: Path) -> None:
    load_recipe(recipe_with_plugins(folder))
    records = [
        {"prompt": "p", "responses": ["a", "b"], "stars": [2, 5]},
        {"prompt": "q", "responses": ["a", "b"], "stars": [2]},
    ]
    (folder / "rated.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    read: SourceRows[Any] = read_source(SourceConfig(path="rated.jsonl"))
    assert [row.judgements() for row in read.rows] == [("2 stars", "5 stars")]
    assert [(reject.origin.line, reject.reason) for reject in read.rejects] == [
        (2, "responses and stars differ in number")
    ]


def test_the_estimator_subtracts_the_median(folder: Path) -> None:
    load_recipe(recipe_with_plugins(folder))
    entry: AdvantageEntry = ADVANTAGES["median"]
    rewards = torch.tensor([[1.0, 0.0], [0.0, 2.0], [7.0, 9.0], [4.0, 0.0], [3.0, 2.0], [6.0, 0.0]])
    mask = torch.tensor([[True, False], [True, True], [True, True], [True, False], [True, True], [True, False]])
    estimate = load_estimator(entry, "rl.advantages")
    found = estimate(AdvantageInputs(rewards, torch.zeros(6, 2), mask, 3, 1.0, 1.0))
    assert found.advantages.tolist() == [[-1, 0], [0, 0], [14, 14], [-1, 0], [0, 0], [1, 0]]


def test_only_the_answer_is_learned(folder: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(modules(PAGE)["my_segments"], namespace)
    tree = namespace["tree"]
    assert tree.responses == ((7, 8, 9, 10, 11, 12, 2),)
    assert tree.learned == ((True, True, False, False, False, True, True),)


def test_a_strategy_for_several_processes_is_refused_with_one(folder: Path) -> None:
    fragment = next(block for block in re.findall(r"```py\n(.*?)```", TEXT, re.DOTALL) if "STRATEGIES" in block)
    namespace: dict[str, Any] = {}
    exec(fragment, namespace)
    mine = Recipe.model_validate({"name": "trial", "distributed": {"kind": "mine", "buckets": 2}}).distributed
    assert mine.buckets == 2  # type: ignore[attr-defined]
    with pytest.raises(PlauditError, match="mine needs several processes"):
        check_strategy(mine, 1)
    check_strategy(mine, 2)

    class SingleConfig(StrategyConfig):
        strategy: ClassVar[str] = mine.strategy
        several: ClassVar[bool] = False

        kind: Literal["single"] = "single"

    check_strategy(SingleConfig(), 1)
    with pytest.raises(PlauditError, match="this run has 2 processes"):
        check_strategy(SingleConfig(), 2)


def test_the_reward_functions_score_a_run(folder: Path) -> None:
    """The recipe's lines are those of the page; the prompts have a column `answer`."""
    page = (DOCS / "algorithms/rewards.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    rewards = yaml.safe_load(lines)["rl"]["rewards"]
    prompts = [{"prompt": f"w{number} w1", "answer": "w"} for number in range(12)]
    path = tiny_recipe(folder, rl__rewards=rewards, rl__value_model=None, rl__iterations=1)
    (folder / "asked.jsonl").write_text("".join(json.dumps(record) + "\n" for record in prompts))
    recipe = load_recipe(str(path), ["rl.prompts.sources=[asked.jsonl]"])
    done = run(recipe, ["pretrain", "sft", "rl"])
    samples = read_json_lines(done / "rl/samples.jsonl")
    assert samples
    for line in samples:
        expected = (float("w" in line["response"]), -len(line["response"].split()) / 100)
        assert (line["scores"]["correct"], line["scores"]["length"]) == pytest.approx(expected)
