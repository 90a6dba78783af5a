"""The pages about the equations are complete, their links work, and their examples print the output shown."""

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import BaseModel, TypeAdapter

import plaudit.algorithms
from pages import ALGORITHMS, DOCS, FENCED, PAGES, ROOT, anchors, defined, examples, links, table_rows
from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES, PREFERENCE_LOSSES, REWARD_LOSSES
from plaudit.algorithms.kl import ESTIMATORS
from plaudit.config.places import sections_in
from plaudit.config.schema import Recipe, RlConfig, Section
from plaudit.config.yaml_text import parse_yaml

INDEX = ALGORITHMS / "README.md"
DETAILS = ALGORITHMS / "implementation-details.md"
NEEDED: dict[str, dict[str, Any]] = {
    "rl": {
        "model": "policy",
        "prompts": {"sources": ["prompts.jsonl"]},
        "rewards": [{"name": "preference", "kind": "model", "path": "reward"}],
    },
    "reward": {"model": "policy", "data": {"sources": ["pairs.jsonl"]}},
    "dpo": {"model": "policy", "data": {"sources": ["pairs.jsonl"]}},
}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


EXTENDING = DOCS / "extending.md"
"""Its Python blocks are parts of plugins, which would change what the other tests see."""
WITHOUT_EQUATIONS = ("catalogue.py", "interface.py", "objectives.py", "estimators.py")
"""Modules that name equations and connect them with the rest."""


def public_names() -> list[tuple[str, str]]:
    """Every public function and class of the package, with its file's name."""
    found = []
    for module_name in pkgutil.iter_modules(plaudit.algorithms.__path__):
        module = importlib.import_module(f"plaudit.algorithms.{module_name.name}")
        for name, thing in vars(module).items():
            is_its_own = getattr(thing, "__module__", None) == module.__name__
            if is_its_own and not name.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)):
                found.append((name, f"{module_name.name}.py"))
    return found


# Links ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if not link.target.exists():
            broken.append(f"{link.target}: no such file")
        elif link.heading and link.target.suffix == ".md" and link.heading not in anchors(link.target):
            broken.append(f"{link.target}: no heading {link.heading}")
        elif link.name and link.name not in defined(link.target):
            broken.append(f"{link.target}: no {link.name}")
    assert not broken


def test_every_equation_is_explained() -> None:
    pages = [page for page in ALGORITHMS.glob("*.md") if page != INDEX]
    linked = {(link.name, link.target) for page in pages for link in links(page)}
    folder = ROOT / "src/plaudit/algorithms"
    equations = [(name, file) for name, file in public_names() if file not in WITHOUT_EQUATIONS]
    assert len(equations) > 50
    assert not [f"{file}: {name}" for name, file in equations if (name, folder / file) not in linked]


def test_every_page_is_reached_from_the_index() -> None:
    reached = {link.target for link in links(INDEX)}
    assert {page for page in ALGORITHMS.glob("*.md") if page != INDEX} <= reached
    assert set((DOCS / "notebooks").glob("*.ipynb")) <= reached
    assert INDEX in {link.target for link in links(ROOT / "README.md")}


@pytest.mark.parametrize("page", sorted(ALGORITHMS.glob("*.md")), ids=named)
def test_formulas_survive_markdown(page: Path) -> None:
    """A Markdown parser that runs before the formula parser removes a backslash before punctuation."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text()))
    assert not re.findall(r"\\[^A-Za-z\s]", prose)
    assert prose.count("$") % 2 == 0


@pytest.mark.parametrize("page", sorted(ALGORITHMS.glob("*.md")), ids=named)
def test_recipes_are_valid(page: Path) -> None:
    for _, text in [block for block in FENCED.findall(page.read_text()) if block[0] == "yaml"]:
        assert configured(text).model_fields_set


# Examples -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_printing() -> None:
    """Print tensors as a new interpreter does."""
    torch.set_printoptions(profile="default")
    torch.manual_seed(0)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page) and page != EXTENDING], ids=named)
def test_examples_print_what_the_page_says(page: Path, plain_printing: None) -> None:
    namespace: dict[str, Any] = {}
    for example in examples(page):
        place = f"{named(page)}:{example.line}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (example.line - 1) + example.code, str(page), "exec"), namespace)
        assert printed.getvalue().replace("-0.0000", " 0.0000") == (example.output or "").replace(
            "-0.0000", " 0.0000"
        ), place


def test_fragments_of_plugins_are_python() -> None:
    for example in examples(EXTENDING):
        assert compile(example.code, f"{named(EXTENDING)}:{example.line}", "exec")


def test_most_pages_have_examples() -> None:
    assert sum(len(examples(page)) for page in ALGORITHMS.glob("*.md")) >= 25


# The index ------------------------------------------------------------------------------------------------------------


def index_row(name: str, function: str) -> list[str]:
    """Return the index's row of an entry, by its name and a word of the page that explains it."""
    rows = [row for row in table_rows(INDEX) if row[0] == f"`{name}`" and function in row[-1]]
    assert len(rows) == 1, name
    return rows[0]


def configured(line: str) -> BaseModel:
    """Return the section of a configuration line, with everything else taken from the recipe."""
    section, keys = next(iter(parse_yaml(line.strip("`"), "the page").items()))
    found = getattr(Recipe(name="documented", **{section: NEEDED[section] | keys}), section)
    assert isinstance(found, BaseModel)
    for key, value in keys.items():
        assert isinstance(value, dict | list) or getattr(found, key) == value
    return found


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantage_estimators_are_in_the_index(name: str) -> None:
    _, equation, paper, line, *_ = index_row(name, "advantages")
    assert (equation, paper) == (f"`{ADVANTAGES[name].equation}`", ADVANTAGES[name].paper)
    assert getattr(configured(line), "advantages") == name  # noqa: B009


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_policy_losses_are_in_the_index(name: str) -> None:
    _, equation, paper, line, *_ = index_row(name, "policy gradients")
    assert (equation, paper) == (f"`{POLICY_LOSSES[name].equation}`", POLICY_LOSSES[name].paper)
    assert getattr(configured(line), "policy_loss") == name  # noqa: B009


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_preference_losses_are_in_the_index(name: str) -> None:
    entry = PREFERENCE_LOSSES[name]
    _, equation, paper, line, *_ = index_row(name, "direct preferences")
    assert equation == f"`{entry.equation}`"
    assert paper.startswith(entry.paper)
    settings = configured(line).model_dump()
    assert settings["loss"] == name
    assert {key: settings[key] for key in entry.defaults} == entry.defaults


@pytest.mark.parametrize("name", [*ESTIMATORS, "online_dpo", "best_of_n", "pairwise", "best_of_k"])
def test_other_choices_are_in_the_index(name: str) -> None:
    page = "KL" if name in ESTIMATORS else "direct" if name in ("online_dpo", "best_of_n") else "reward"
    section = configured(index_row(name, page)[3])
    chosen = section.kl.estimator if name in ESTIMATORS else None  # type: ignore[attr-defined]
    assert name in (chosen, getattr(section, "objective", None), getattr(section, "loss", None))


def test_no_choice_of_the_schema_is_left_out() -> None:
    rows = {row[0].strip("`") for row in table_rows(INDEX)}
    objectives = set(get_args(RlConfig.model_fields["objective"].annotation))
    for choices in (set(ADVANTAGES), set(POLICY_LOSSES), set(PREFERENCE_LOSSES), set(REWARD_LOSSES), objectives):
        assert choices <= rows | {"policy_gradient"}


# Configuration keys ---------------------------------------------------------------------------------------------------


def field_of(key: str) -> Any:
    """The schema's field of a dotted key, such as ``rl.kl.target``; raises KeyError when there is none."""
    sections: list[type[Section]] = [Recipe]
    *parents, last = key.split(".")
    for part in parents:
        sections = [inner for section in sections for place, inner in sections_in(section) if place[0] == part]
    return next((section.model_fields[last] for section in sections if last in section.model_fields), None)


KEY = re.compile(r"`((?:rl|reward|dpo|sft|pretrain|evaluate)\.[a-z_.]+?)(?:=([^`]+))?`")


@pytest.mark.parametrize("page", sorted(ALGORITHMS.glob("*.md")), ids=named)
def test_configuration_keys_exist(page: Path) -> None:
    for key, _ in KEY.findall(page.read_text()):
        assert field_of(key) is not None, key


def test_defaults_in_the_table_of_details_are_the_schemas() -> None:
    """A row's column "Plaudit" names keys as `key=default`, the default as YAML."""
    found = [pair for row in table_rows(DETAILS) for cell in row for pair in KEY.findall(cell)]
    stated = [(key, default) for key, default in found if default]
    assert len(stated) >= 15
    for key, default in stated:
        field = field_of(key)
        value: Any = TypeAdapter(field.annotation).validate_python(parse_yaml(default, key))
        assert field.get_default(call_default_factory=True) == value, key
