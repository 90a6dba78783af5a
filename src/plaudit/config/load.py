"""Loads a YAML file and ``key=value`` overrides into a validated recipe, and writes recipes as YAML."""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from plaudit.config.marks import REFERENCE, marked_values
from plaudit.config.overrides import Override, apply_overrides, parse_overrides
from plaudit.config.places import alternatives, dotted, kinds_of, nearest_choice, section_in, suggestion, type_at
from plaudit.config.python_values import plain_recipe
from plaudit.config.schema import ModelConfig, Recipe, RewardSourceConfig, Section, recipe_type
from plaudit.config.schema.base import MAY_NAME_STAGE, Place, has_mark
from plaudit.config.secrets import mask_addresses, mask_in_text
from plaudit.config.words import in_words
from plaudit.config.yaml_text import DEEPEST, LARGEST_INTEGER, parse_yaml, read_yaml, write_yaml
from plaudit.errors import PlauditError, all_of
from plaudit.plugins import load_plugins, search_modules_in
from plaudit.registries.stages import STAGES

AnySection = TypeVar("AnySection", bound=Section)
RecipeSource = str | os.PathLike[str] | Mapping[str, Any] | Recipe
"""A YAML file, the name of a shipped recipe, keys and values, or a recipe."""


def shipped_recipes() -> dict[str, str]:
    """Return the recipes in the package: name -> YAML text, in alphabetical order."""
    folder = files("plaudit.recipes")
    found = {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def shipped_recipe(name: str) -> str:
    """Return the YAML text of a shipped recipe. Raises PlauditError, with the nearest name, for an unknown name."""
    shipped = shipped_recipes()
    if name not in shipped:
        near = get_close_matches(name, shipped, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PlauditError(
            f"{name}: no such recipe; {hint}choose one of {', '.join(shipped)}, or give the path of a YAML file"
        )
    return shipped[name]


def load_recipe(
    source: RecipeSource, overrides: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = ()
) -> Recipe:
    """Return the validated recipe of a source, after the overrides.

    Args:
        source: a YAML file, the name of a shipped recipe, a mapping of keys and values, or a recipe. A mapping may hold
            functions and rows of data, see ``plain_recipe``.
        overrides: texts ``a.b.c=value``, or mappings of ``a.b.c`` to a value; one of them or several.

    Returns:
        The recipe, which cannot be changed.

    Raises:
        PlauditError: one line per problem, with the file or override, the dotted key, and the remedy.
    """
    if isinstance(overrides, str | Mapping):
        overrides = [overrides]
    parsed = [one for override in overrides for one in parse_overrides(override)]
    raw, name = _read(source)
    apply_overrides(raw, parsed)
    _check_values(raw, name)
    if isinstance(plugins := raw.get("plugins"), list) and all(isinstance(plugin, str) for plugin in plugins):
        load_plugins(plugins)
    if isinstance(source, Mapping) or any(isinstance(override, Mapping) for override in overrides):
        raw = plain_recipe(raw, Recipe.model_fields["output"].default)
    try:
        recipe = recipe_type().model_validate(raw)
    except ValidationError as error:
        lines = [mask_in_text(_explained(problem, raw, name, parsed)) for problem in error.errors()]
        raise all_of(lines) from None
    _check_references(recipe, name)
    return recipe


def _check_values(value: Any, source: str, place: Place = ()) -> None:
    """Raise PlauditError for values that no key can have: deep nesting, huge numbers, texts that are not Unicode."""
    problem = None
    if len(place) > DEEPEST:
        raise PlauditError(f"{source}: {dotted(place)[:60]}…: nested deeper than {DEEPEST} levels, or inside of itself")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_values(key, source, (*place, "a key"))
            _check_values(inner, source, (*place, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_values(inner, source, (*place, index))
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        problem = "a number above 2^63; give a smaller one"
    elif isinstance(value, str) and "\0" in value:
        problem = "a NUL character; remove it"
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        problem = "a byte that is not UTF-8; write the text in UTF-8"
    if problem is not None:
        raise PlauditError(f"{source}: {dotted(place)}: {problem}")


def _read(source: RecipeSource) -> tuple[dict[str, Any], str]:
    """Return a recipe before validation, and its name for messages."""
    if isinstance(source, Recipe):
        return _values(source), "recipe"
    if isinstance(source, Mapping):
        return dict(source), "recipe"
    if not isinstance(source, str | PathLike):
        raise PlauditError(f"{source!r}: not a recipe; give a YAML file, a shipped recipe's name or a dictionary")
    path = Path(source)
    is_file = path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or path.is_file()
    raw = read_yaml(path) if is_file else parse_yaml(shipped_recipe(str(source)), str(source))
    if not isinstance(raw, dict):
        raise PlauditError(f"{source}: not a recipe; expected keys and values, such as 'name: my-run'")
    if is_file:
        search_modules_in(path.parent)
    return raw, str(source)


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML with every value that has an effect; ``load_recipe`` reads the same recipe back.

    Secrets in addresses are masked. Stages that do not run are left out, and so are keys without effect, because
    writing them would be an error.
    """
    return write_yaml(mask_addresses(_values(recipe), distinct=True))


def _values(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in _plain(recipe).items() if key not in STAGES or value is not None}


def _plain(value: Any, idle: Collection[Place] = ()) -> Any:
    """Return a value as plain YAML data, without the keys at the places ``idle`` and others that have no effect."""
    if isinstance(value, Section):
        idle = {*idle, *value.idle_places}
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else value
    if isinstance(value, list | dict | Section):
        plain = {
            key: _plain(inner, [place[1:] for place in idle if len(place) > 1 and place[0] == key])
            for key, inner in items
            if (key,) not in idle or inner is None or inner is False
        }
        return list(plain.values()) if isinstance(value, list) else plain
    return value


# Errors ---------------------------------------------------------------------------------------------------------------


def _explained(problem: Any, raw: Any, source: str, overrides: Sequence[Override]) -> str:
    """Return one of pydantic's errors as a line: the file or override, the key, and what was expected."""
    place, value = _place_and_value(raw, problem["loc"])
    reason = _reason(problem, place, value, raw)
    for override in reversed(overrides):
        if place == override.place:
            return f"{override.text}: {reason}"
        through = override.place[: len(place)] == place and problem["type"] == "extra_forbidden"
        if through or place[: len(override.place)] == override.place:
            return f"{override.text}: {dotted(place)}: {reason}"
    on_command_line = f", or add {dotted(place)}=null" if reason.endswith("remove it") and overrides else ""
    return f"{source}: {dotted(place)}: {reason}{on_command_line}"


def _reason(problem: Any, place: Place, value: Any, raw: Any) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"unknown key{suggestion(place, raw)}"
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "problem":
        return str(problem["msg"])
    if kind == "invalid_key":
        return "keys are texts; put quotation marks around it, or remove it"
    if kind == "no_effect":
        return f"has no effect {problem['msg']}; remove it"
    expected = type_at(place, raw)
    if kind == "missing":
        return f"required key is missing; expected {in_words(expected)}"
    return f"expected {in_words(expected, _in_words)}, not {_short(value)}{nearest_choice(expected, value)}"


def _in_words(section: type[Section]) -> str:
    if issubclass(section, ModelConfig):
        return "a path, keys and values or, in Python, a pair of model and tokenizer"
    reward = issubclass(section, RewardSourceConfig)
    return "keys and values" + (" (in Python also a function)" if reward else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text.replace("NaN", ".nan").replace("Infinity", ".inf")  # as YAML writes them
    return text if len(text) <= 60 else text[:57] + "…"


def _place_and_value(raw: Any, location: Sequence[str | int]) -> tuple[Place, Any]:
    """Return the place of an error and its value, without the names of union members that pydantic appends."""
    place: list[str | int] = []
    whole = raw
    for depth, key in enumerate(location, start=1):
        if isinstance(raw, dict) and (key in raw or depth == len(location)):
            raw = raw.get(key)
        elif isinstance(raw, list) and isinstance(key, int) and key < len(raw):
            raw = raw[key]
        elif isinstance(raw, str) and _has_key(type_at(place, whole), raw, key):
            # A plain string stands for a section in which only one key is set: the problem is at that key or another.
            raw = raw if _is_selector(type_at(place, whole), key) else None
        else:
            break
        place.append(key)
    return tuple(place), raw


def _has_key(annotation: Any, value: str, key: str | int) -> bool:
    section = section_in(annotation, value)
    return section is not None and key in section.model_fields


def _is_selector(annotation: Any, key: str | int) -> bool:
    return any(kinds.key == key for kinds in map(kinds_of, alternatives(annotation)) if kinds is not None)


# References between stages --------------------------------------------------------------------------------------------


def replace_references(section: AnySection, path_of: Callable[[str, str], str]) -> AnySection:
    """Replace each ``stage:NAME/FILE`` by ``path_of(NAME, FILE)``; FILE is empty for ``stage:NAME``."""
    replaced: AnySection = _replaced(section, path_of)
    return replaced


def _replaced(value: Any, path_of: Callable[[str, str], str], is_reference: bool = False) -> Any:
    if isinstance(value, Section):
        update = {key: _replaced(inner, path_of, _names_stages(value, key)) for key, inner in value}
        return value.model_copy(update=update)
    if isinstance(value, dict):
        return {key: _replaced(inner, path_of, is_reference) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, path_of, is_reference) for inner in value]
    if is_reference and isinstance(value, str) and value.startswith(REFERENCE):
        stage, _, file = value.removeprefix(REFERENCE).partition("/")
        return path_of(stage, file)
    return value


def referenced_stages(section: Section) -> set[str]:
    """Return the names of the stages that a section refers to."""
    return {found.reference[0] for found in marked_values(section) if found.reference is not None}


def _check_references(recipe: Recipe, source: str) -> None:
    """Raise PlauditError for every reference to a stage that the recipe lacks or that runs too late."""
    sections = recipe.sections()
    present = list(sections)
    problems = []
    for position, stage in enumerate(present):
        earlier = present[:position]
        for found in marked_values(sections[stage], (stage,)):
            if found.reference is None or found.reference[0] in earlier:
                continue
            wanted, before = found.reference[0], ", ".join(earlier) or "none"
            what = "does not run before it" if wanted in present else "is not a stage of this recipe"
            problems.append(
                f"{source}: {found.place_text}: {found.value}: {wanted} {what}; stages before {stage}: {before}"
            )
    if problems:
        raise all_of(problems)


def _names_stages(section: Section, key: str) -> bool:
    return has_mark(type(section).model_fields[key], MAY_NAME_STAGE)
