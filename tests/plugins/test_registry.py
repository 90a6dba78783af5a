"""Registries find, suggest and refuse names; plugins are imported from a folder."""

import math
import sys
from pathlib import Path

import pytest

from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.plugins import import_function, load_plugins
from plaudit.registry import Registry


def test_an_entry_is_imported_on_first_access() -> None:
    registry: Registry[object] = Registry("number", {"one": 1})
    registry.register("root", "math:sqrt")
    assert registry.names == ("one", "root")
    assert registry["root"] is math.sqrt


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(PlauditError, match=r"reward kind.*did you mean model.*model, http"):
        Registry[int]("reward kind", {"model": 1, "http": 2})["modl"]


def test_an_entry_before_an_unknown_one_is_refused() -> None:
    registry = Registry[int]("stage", {"sft": 1, "rl": 2})
    registry.register("dpo", 3, before="rl")
    assert registry.names == ("sft", "dpo", "rl")
    with pytest.raises(PlauditError, match="unknown stage; did you mean rl"):
        registry.register("reward", 4, before="rll")


def test_a_name_in_use_is_refused_but_the_same_entry_may_come_twice() -> None:
    registry: Registry[int] = Registry("loss", {"ppo": 1})
    registry.register("ppo", 1)
    with pytest.raises(PlauditError, match="ppo"):
        registry.register("ppo", 2)


def test_a_plugin_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "plugin_next_to_recipe.py").write_text("LOADED = True\n")
    load_plugins(["plugin_next_to_recipe"])
    assert sys.modules.pop("plugin_next_to_recipe").LOADED


def test_an_error_inside_a_plugin_names_the_key_and_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_plugin.py").write_text("import no_such_dependency\n")
    with pytest.raises(PlauditError, match=r"^plugins: .*broken_plugin.*ModuleNotFoundError.*no_such_dependency"):
        load_plugins(["broken_plugin"])


def test_a_recipe_imports_its_plugins_before_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "plugin_of_recipe.py").write_text("LOADED = True\n")
    (tmp_path / "mine.yaml").write_text("name: mine\nplugins: [plugin_of_recipe]\n")
    assert load_recipe("mine.yaml").plugins == ["plugin_of_recipe"]
    assert sys.modules.pop("plugin_of_recipe").LOADED
    assert load_recipe("quickstart", ["plugins=[plugin_of_recipe]"]).plugins == ["plugin_of_recipe"]
    assert "plugin_of_recipe" in sys.modules
    with pytest.raises(PlauditError, match="plugins"):
        load_recipe("mine.yaml", ["plugins=3"])


@pytest.mark.parametrize("reference", ["math", "math:", "math:no_such", "no_such_module:f"])
def test_an_invalid_reference_is_refused_with_its_place(reference: str) -> None:
    with pytest.raises(PlauditError, match=r"^rl\.loss: "):
        import_function(reference, "rl.loss")


def test_a_reference_gives_the_function() -> None:
    assert import_function("math:sqrt", "rl.loss") is math.sqrt
