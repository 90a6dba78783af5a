"""Command-line overrides: ``key=value`` replaces or adds values of a recipe before it is validated."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from plaudit.config.places import dotted, may_be_null, section_in, type_at
from plaudit.config.schema.base import Place
from plaudit.config.yaml_text import DEEPEST, parse_yaml
from plaudit.errors import PlauditError

LONGEST_INDEX = 10  # digits
SHOWN_CHARACTERS = 300  # of an override, in messages


@dataclass(frozen=True)
class Override:
    """One ``a.b.0.c=value``: the place, the value, and the user's text."""

    place: Place
    value: Any
    text: str


def parse_overrides(override: str | Mapping[str, Any]) -> list[Override]:
    """Parse ``a.b.0.c=value`` or a mapping of ``a.b.0.c`` to a value.

    The value in a text is YAML: ``[a, b]``, ``null`` and ``1e-4`` mean the same as in a recipe.
    """
    if isinstance(override, Mapping):
        return [Override(_place(key, f"{key!r}"), value, f"{key}={value!r}") for key, value in override.items()]
    if not isinstance(override, str):
        raise PlauditError(
            f"{override!r}: an override must be a string or a dictionary, not {type(override).__name__}; write it like "
            "'rl.kl.coefficient=0.1'"
        )
    key, equals, value = override.partition("=")
    if not equals:
        raise PlauditError(f"{override[:SHOWN_CHARACTERS]}: expected key=value, such as rl.kl.coefficient=0.1")
    shown = override if len(override) <= SHOWN_CHARACTERS else f"{override[:SHOWN_CHARACTERS]}…"
    return [Override(_place(key, shown), parse_yaml(value, shown), shown)]


def _place(key: str, text: str) -> Place:
    parts = key.strip().split(".")
    if len(parts) > DEEPEST:
        raise PlauditError(f"{text[:60]}…: more than {DEEPEST} levels; write it like rl.kl.coefficient=0.1")
    if not all(parts):
        raise PlauditError(f"{text}: expected key=value, such as rl.kl.coefficient=0.1")
    return tuple(int(part) if _is_index(part) else part for part in parts)


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < LONGEST_INDEX


def apply_overrides(recipe: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Write the overrides in order into ``recipe``, which holds YAML data. Missing sections are created.

    ``null`` removes a key that cannot be null, so that it gets its default.
    """
    for override in overrides:
        container: Any = recipe
        for depth, key in enumerate(override.place[:-1]):
            key = _checked_key(container, override, depth)
            inner = container[key] if isinstance(container, list) else container.get(key)
            container[key] = _opened(inner, type_at(override.place[: depth + 1], recipe))
            container = container[key]
        last = _checked_key(container, override, len(override.place) - 1)
        annotation = type_at(override.place, recipe)
        removes = last in container if annotation is None else not may_be_null(annotation)
        if override.value is None and isinstance(container, dict) and removes:
            container.pop(last, None)
        else:
            container[last] = override.value


def _opened(value: Any, annotation: Any) -> Any:
    """Return a container for a nested key: a new section for None, ``{path: value}`` for a plain string."""
    section = section_in(annotation)
    if isinstance(value, str) and section is not None and "path" in section.model_fields:
        return {"path": value}
    # A copy, because YAML anchors can make other sections the same object, which must not change.
    return {} if value is None else copy(value)


def _checked_key(container: Any, override: Override, depth: int) -> Any:
    """Return the key at ``depth`` of the override. Raises PlauditError if the container cannot hold it."""
    key, above = override.place[depth], dotted(override.place[:depth])
    if isinstance(container, list):
        if not isinstance(key, int) or key >= len(container):
            raise PlauditError(
                f"{override.text}: {above} has no entry {key}; entries count from 0, and it has {len(container)}"
            )
        return key
    if not isinstance(container, dict):
        raise PlauditError(
            f"{override.text}: {above} is a single value, {container!s:.60}, and has no keys; set {above} itself"
        )
    return str(key)
