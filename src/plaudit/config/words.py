"""Describes types in words, for error messages and the configuration reference."""

import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from plaudit.config.schema import Kinds, NameOf, Section

_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Any: "any value",
    NoneType: "null",
}


def _keys_and_values(section: type[Section]) -> str:
    return "keys and values"


def in_words(annotation: Any, section_in_words: Callable[[type[Section]], str] = _keys_and_values) -> str:
    """Describe a type of the schema: ``a number from 0 to 1``, ``gae, grpo or rloo``, ``a list of strings or null``."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        kinds = next((mark for mark in arguments[1:] if isinstance(mark, Kinds)), None)
        if kinds is not None:
            return " or ".join(dict.fromkeys(section_in_words(section) for section in kinds))
        names = next((mark for mark in arguments[1:] if isinstance(mark, NameOf)), None)
        if names is not None:
            return _one_of(names.choices)
        inner = in_words(arguments[0], section_in_words)
        return inner + _bounds(arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(in_words(choice, section_in_words) for choice in arguments)
    if origin is Literal:
        return _one_of([str(choice) for choice in arguments])
    if origin is list:
        return f"a list of {_several(in_words(arguments[0], section_in_words))}"
    if origin is dict:
        return f"a mapping from names to {in_words(arguments[1], section_in_words)}"
    return _PLAIN[annotation] if annotation in _PLAIN else section_in_words(annotation)


def _one_of(choices: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _several(one: str) -> str:
    """Turn a description of one item into that of several: ``a whole number above 0`` -> ``whole numbers above 0``."""
    if one.startswith(_keys_and_values(Section)):
        return f"entries with {one}"
    return re.sub("number|string", r"\g<0>s", one.removeprefix("a "), count=1)


def _bounds(constraints: tuple[Any, ...]) -> str:
    flat = [c for given in constraints for c in (given.metadata if isinstance(given, FieldInfo) else [given])]
    low = next((c.ge for c in flat if isinstance(c, Ge)), None)
    above = next((c.gt for c in flat if isinstance(c, Gt)), None)
    high = next((c.le for c in flat if isinstance(c, Le)), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [f"above {above}"] * (above is not None) + [f"at least {low}"] * (low is not None)
    parts += [f"at most {high}"] * (high is not None)
    parts += [f"and below {c.lt}" for c in flat if isinstance(c, Lt)]
    parts += [f"(at least {c.min_length})" for c in flat if isinstance(c, MinLen)]
    return "".join(f" {part}" for part in parts).replace(" at most", " and at most")
