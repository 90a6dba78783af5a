"""Checks one section of the configuration that comes from a call or an option instead of a recipe."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from plaudit.config.schema import Section
from plaudit.errors import all_of

AnySection = TypeVar("AnySection", bound=Section)


def checked_section(section: type[AnySection], values: Mapping[str, Any], place: str = "") -> AnySection:
    """Return the section with ``values``. Raises PlauditError, with ``place`` and a line for each wrong value."""
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        prefix = f"{place}: " if place else ""
        raise all_of([f"{prefix}{_explained(section, problem)}" for problem in error.errors()]) from None


def _explained(section: type[Section], problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(key, section.model_fields, n=1)
        return f"{key}: unknown; " + (
            f"did you mean {near[0]}?" if near else f"known: {', '.join(section.model_fields)}"
        )
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{key}: has no effect {text}" if problem["type"] == "no_effect" else f"{key}: {text[:1].lower()}{text[1:]}"
