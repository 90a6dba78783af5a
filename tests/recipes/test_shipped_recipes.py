"""Every recipe in the package is complete: it loads, its references resolve, and it has a description."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.load import dump, load_recipe, shipped_recipe, shipped_recipes
from plaudit.config.schema import (
    FunctionReward,
    ModelConfig,
    Recipe,
    RewardSourceConfig,
    RlConfig,
    Section,
    SourceConfig,
)
from plaudit.data.formats.registry import FORMATS
from plaudit.runs.directory import RunDirectory

NAMES = sorted(shipped_recipes())
# The tasks that the documentation promises; any other recipe is tested like them.
PROMISED = {
    "stories",
    "helpful",
    "helpful-dpo",
    "rankings",
    "gpt2-imdb",
    "gpt2-descriptiveness",
    "pythia-tldr",
    "qwen-helpful-lora",
    "gpt2-xl-zero2",
}


def stages_of(recipe: Recipe) -> dict[str, Any]:
    return dict(recipe.sections())


def parts(value: Any, kind: type[Section]) -> list[Any]:
    """Return every section of a class inside a value."""
    if isinstance(value, kind):
        return [value]
    inner: list[Any] = []
    if isinstance(value, Section):
        inner = [item for _, item in value]
    elif isinstance(value, dict | list):
        inner = list(value.values()) if isinstance(value, dict) else value
    return [found for item in inner for found in parts(item, kind)]


def paths_of(recipe: Recipe) -> list[str]:
    """Return where every model, tokenizer, reward model and data source of a recipe comes from."""
    models = [path for part in parts(recipe, ModelConfig) for path in (part.path, part.tokenizer)]
    sources = [part.path for part in parts(recipe, SourceConfig)]
    rewards = [getattr(part, "path", None) for part in parts(recipe, RewardSourceConfig)]
    values = [part.value_model for part in parts(recipe, RlConfig)]
    return [path for path in (*models, *sources, *rewards, *values) if isinstance(path, str)]


def test_all_promised_recipes_are_there() -> None:
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_loads_and_is_called_like_its_file(self, name: str) -> None:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert stages_of(recipe)

    def test_says_in_one_line_what_it_does_and_what_it_needs(self, name: str) -> None:
        recipe = load_recipe(name)
        assert 20 < len(recipe.description) < 110
        assert "\n" not in recipe.description
        assert shipped_recipe(name).startswith("# ")
        assert "# Hardware: " in shipped_recipe(name)

    def test_references_become_folders_of_stages_before(self, name: str) -> None:
        recipe = load_recipe(name)
        before: list[str] = []
        for stage, section in stages_of(recipe).items():
            resolved = RunDirectory(Path("RUN")).resolve(section)
            text = resolved.model_dump_json()
            assert "stage:" not in text
            for made in ("RUN/" + part.partition("/")[0] for part in text.split("RUN/")[1:]):
                assert made.removeprefix("RUN/") in before
            before.append(stage)

    def test_survives_being_written_out(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "resolved.yaml"
        path.write_text(dump(load_recipe(name)), encoding="utf-8")
        assert load_recipe(str(path)) == load_recipe(name)

    def test_reward_functions_exist(self, name: str) -> None:
        for source in parts(load_recipe(name), FunctionReward):
            module, _, function = source.function.partition(":")
            assert callable(getattr(import_module(module), function))

    def test_models_and_data_are_of_the_run_or_of_the_hub(self, name: str) -> None:
        """Users have no other folders: every path is ``stage:…`` or a full hub name, OWNER/NAME."""
        paths = paths_of(load_recipe(name))
        assert paths
        for path in paths:
            assert path.startswith("stage:") or re.fullmatch(r"[\w-]+/[\w.-]+", path), path
            assert not path.endswith((".jsonl", ".gz", ".json", ".csv", ".parquet")) or path.startswith("stage:"), path


@pytest.mark.parametrize("name", [name for name in NAMES if load_recipe(name).evaluate is not None])
def test_evaluates_the_models_and_rewards_it_names(name: str) -> None:
    evaluate = load_recipe(name).evaluate
    assert evaluate is not None
    assert {evaluate.baseline, evaluate.reference or evaluate.baseline} <= set(evaluate.models)
    assert evaluate.best_of_model is None or evaluate.best_of_model in evaluate.models
    assert evaluate.best_of_reward in {None, *(source.name for source in evaluate.rewards)}


def test_named_row_formats_exist() -> None:
    named = {source.format for name in NAMES for source in parts(load_recipe(name), SourceConfig)} - {"auto"}
    assert "imdb" in named
    assert named <= set(FORMATS)
