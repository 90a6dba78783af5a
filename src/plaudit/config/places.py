"""Finding one's way in the schema: which type stands at a dotted place, and what a misspelt key was meant to be."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from plaudit.config.schema import Recipe, Section

Place = tuple[str | int, ...]
"""Keys and list indices from the top of a recipe, such as ``("rl", "rewards", 0, "weight")``."""


def dotted(place: Sequence[str | int]) -> str:
    """Write a place as users do: ``rl.rewards.0.weight``."""
    return ".".join(str(key) for key in place)


def alternatives(annotation: Any) -> list[Any]:
    """Return the types a value may have, without ``None`` and without constraints."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [found for choice in get_args(annotation) for found in alternatives(choice)]
    return [] if annotation is NoneType else [annotation]


def section_in(annotation: Any) -> type[Section] | None:
    """Return the section that a value of this type may be, if any."""
    classes = (choice for choice in alternatives(annotation) if isinstance(choice, type) and get_origin(choice) is None)
    return next((choice for choice in classes if issubclass(choice, Section)), None)


def type_at(place: Sequence[str | int]) -> Any:
    """Return the annotation at a place of the recipe; None where the schema has nothing or takes anything."""
    annotation: Any = Recipe
    for key in place:
        annotation = _step(annotation, key)
    return annotation


def _step(annotation: Any, key: str | int) -> Any:
    section = section_in(annotation)
    if section is not None:
        field = section.model_fields.get(str(key))
        return field_type(field) if field else None
    for choice in alternatives(annotation):
        if get_origin(choice) is list:
            return get_args(choice)[0]
        if get_origin(choice) is dict:
            return get_args(choice)[1]
    return None


def field_type(field: FieldInfo) -> Any:
    """Return a field's type with its constraints, which pydantic keeps apart."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def sections_in(section: type[Section]) -> Iterator[tuple[Place, type[Section]]]:
    """Yield the sections right inside a section with their places: entries of lists stand at N, of mappings at NAME."""
    for key, field in section.model_fields.items():
        annotation: Any = field_type(field)
        place: Place = (key,)
        for container, entry in ((list, "N"), (dict, "NAME")):
            if any(get_origin(choice) is container for choice in alternatives(annotation)):
                annotation, place = _step(annotation, entry), (key, entry)
        inner = section_in(annotation)
        if inner is not None:
            yield place, inner


def sections_below(section: type[Section]) -> Iterator[tuple[Place, type[Section]]]:
    """Yield every section inside a section, however deep, with its place."""
    for place, inner in sections_in(section):
        yield place, inner
        for deeper_place, deeper in sections_below(inner):
            yield place + deeper_place, deeper


def suggestion(place: Sequence[str | int]) -> str:
    """Return what to write instead of the unknown key at the end of ``place``."""
    section = section_in(type_at(place[:-1]))
    if section is None:
        return ""
    key = str(place[-1])
    deeper = [below for below, inner in sections_below(section) if key in inner.model_fields]
    if deeper:
        return f"; did you mean {dotted((*place[:-1], *min(deeper, key=len), key))}?"
    near = get_close_matches(key, section.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(section.model_fields)}"
