"""Look-ups in the schema: the type at a place, and suggestions for misspelt keys.

A place is a path of keys and list indices, such as ``rl.rewards.0.weight``.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from plaudit.config.schema import Kinds, NameOf, Section, recipe_type
from plaudit.config.schema.base import MAY_CHANGE, Place, has_mark

FEW_KEYS = 12
"""A message about an unknown key lists all keys of a section that has at most this many."""


def dotted(place: Sequence[str | int]) -> str:
    """Return a place as users write it: ``rl.rewards.0.weight``."""
    return ".".join(str(key) for key in place)


def alternatives(annotation: Any) -> list[Any]:
    """Return the types that a value may have, without ``None`` and without constraints other than kinds and names."""
    if get_origin(annotation) is Annotated:
        whole = kinds_of(annotation) or name_of(annotation)
        return [annotation] if whole else alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for choice in get_args(annotation) for found in alternatives(choice)]
    return [] if annotation is NoneType else [annotation]


def kinds_of(annotation: Any) -> Kinds | None:
    """Return the kinds of a type that is a section of several kinds; None for other types."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((mark for mark in get_args(annotation)[1:] if isinstance(mark, Kinds)), None)


def name_of(annotation: Any) -> NameOf | None:
    """Return the constraint of a type that names an entry of a catalogue; None for other types."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((mark for mark in get_args(annotation)[1:] if isinstance(mark, NameOf)), None)


def may_be_null(annotation: Any) -> bool:
    """Whether a value of this type may be null."""
    if get_origin(annotation) is Annotated:
        return may_be_null(get_args(annotation)[0])
    return annotation in (Any, NoneType) or any(choice is NoneType for choice in get_args(annotation))


def section_in(annotation: Any, value: Any = None) -> type[Section] | None:
    """Return the section type of this annotation, if any; for several kinds, the one that ``value`` names."""
    for choice in alternatives(annotation):
        kinds = kinds_of(choice)
        if kinds is not None:
            return kinds.section_of(value)
        if isinstance(choice, type) and get_origin(choice) is None and issubclass(choice, Section):
            return choice
    return None


def type_at(place: Sequence[str | int], raw: Any = None) -> Any:
    """Return the annotation at a place of the recipe; None if the schema has no such key or accepts anything there.

    ``raw`` is the recipe as read from YAML. It determines the kind of a section.
    """
    annotation: Any = recipe_type()
    for key in place:
        annotation = _step(annotation, key, raw)
        raw = _inside(raw, key)
    return annotation


def _inside(raw: Any, key: str | int) -> Any:
    if isinstance(raw, dict):
        return raw.get(key)
    return raw[key] if isinstance(raw, list) and isinstance(key, int) and key < len(raw) else None


def _step(annotation: Any, key: str | int, value: Any = None) -> Any:
    section = section_in(annotation, value)
    if section is not None:
        kinds = next(filter(None, map(kinds_of, alternatives(annotation))), None)
        if kinds is not None and key == kinds.key:
            return kinds.names
        field = section.model_fields.get(str(key))
        return field_type(field) if field else None
    for choice in alternatives(annotation):
        if get_origin(choice) is list:
            return get_args(choice)[0]
        if get_origin(choice) is dict:
            return get_args(choice)[1]
    return None


def field_type(field: FieldInfo) -> Any:
    """Return a field's type with its constraints, which pydantic stores separately."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def may_change(place: Sequence[str | int], raw: Any) -> bool:
    """Whether a key, or a section that contains it, may change when a run is resumed: no result depends on it.

    ``raw`` is the recipe in plain values.
    """
    annotation: Any = recipe_type()
    for key in place:
        section = section_in(annotation, raw)
        field = None if section is None else section.model_fields.get(str(key))
        if field is not None and has_mark(field, MAY_CHANGE):
            return True
        annotation, raw = _step(annotation, key, raw), _inside(raw, key)
    return False


def sections_in(section: type[Section]) -> Iterator[tuple[Place, type[Section]]]:
    """Yield the sections directly inside a section with their places; list entries have the key N, mappings NAME."""
    for key, field in section.model_fields.items():
        annotation: Any = field_type(field)
        place: Place = (key,)
        for container, entry in ((list, "N"), (dict, "NAME")):
            if any(get_origin(choice) is container for choice in alternatives(annotation)):
                annotation, place = _step(annotation, entry), (key, entry)
        for inner in sections_of(annotation):
            yield place, inner


def sections_of(annotation: Any) -> list[type[Section]]:
    """Return every section type of this annotation."""
    kinds = next(filter(None, map(kinds_of, alternatives(annotation))), None)
    section = section_in(annotation)
    return list(kinds) if kinds is not None else [section] if section is not None else []


def sections_below(section: type[Section]) -> Iterator[tuple[Place, type[Section]]]:
    """Yield every section inside a section, at any depth, with its place."""
    for place, inner in sections_in(section):
        yield place, inner
        for deeper_place, deeper in sections_below(inner):
            yield place + deeper_place, deeper


def suggestion(place: Sequence[str | int], raw: Any) -> str:
    """Return a hint for the unknown key at the end of ``place``: a similar key, or one that accepts its value.

    Without either it names all keys of a small section, and the most similar ones of a large section.
    """
    above, key = place[:-1], str(place[-1])
    annotation, value = type_at(above, raw), raw
    for step in above:
        value = _inside(value, step)
    section = section_in(annotation, value)
    if section is None:
        return ""
    kinds = next(filter(None, map(kinds_of, alternatives(annotation))), None)
    if kinds is not None and kinds.kinds_with(key):
        return _other_kind(kinds, key, value)
    deeper = [below for below, inner in sections_below(section) if key in inner.model_fields]
    if deeper:
        return f"; did you mean {dotted((*above, *min(deeper, key=len), key))}?"
    keys = list(section.model_fields)
    if near := get_close_matches(key, keys, n=1):
        return f"; did you mean {near[0]}?"
    given = _inside(value, place[-1])
    if accepting := [
        name for name in keys if given is not None and given in _choices(field_type(section.model_fields[name]))
    ]:
        return f"; did you mean {' or '.join(f'{name}={given}' for name in accepting)}?"
    if len(keys) <= FEW_KEYS:
        return f"; known keys: {', '.join(keys)}"
    closest = get_close_matches(key, keys, n=3, cutoff=0.0)
    title = section.__name__.removesuffix("Config")
    return f"; the most similar keys are {', '.join(closest)}; all are in docs/configuration.md under {title}"


def _other_kind(kinds: Kinds, key: str, value: Any) -> str:
    """Return a hint that names the kinds with this key, and the keys of the chosen kind."""
    chosen, section = value.get(kinds.key, kinds.default), kinds.section_of(value)
    own = [name for name in section.model_fields if name not in kinds.base.model_fields]
    what = f"; {kinds.key}={chosen} has {', '.join(own)}" if own else ""
    return f" of {kinds.key}={chosen}: it belongs to {' and '.join(kinds.kinds_with(key))}{what}; remove it"


def nearest_choice(annotation: Any, value: Any) -> str:
    """Return a hint with the allowed word that is most similar to ``value``, if one is similar."""
    near = get_close_matches(value, map(str, _choices(annotation)), n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def _choices(annotation: Any) -> list[Any]:
    """Return the words that a type allows; none if it allows any text."""
    words: list[Any] = []
    for choice in alternatives(annotation):
        names = name_of(choice)
        words += names.choices if names else get_args(choice) if get_origin(choice) is Literal else []
    return words
