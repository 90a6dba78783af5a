"""The values of a recipe whose keys are marked in the schema, such as those that name a model or a file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from plaudit.config.places import dotted
from plaudit.config.schema import Section
from plaudit.config.schema.base import MAY_NAME_STAGE, Place

REFERENCE = "stage:"
_NO_MARKS: Mapping[str, Any] = MappingProxyType({})


def stage_reference(text: str | None) -> tuple[str, str] | None:
    """Return stage and file of ``stage:NAME`` (no file) or ``stage:NAME/FILE``; None for anything else."""
    if text is None or not text.startswith(REFERENCE):
        return None
    stage, _, file = text.removeprefix(REFERENCE).partition("/")
    return stage, file


@dataclass(frozen=True)
class MarkedValue:
    """A value, its place, the section that holds it, and the marks of its key (see ``config.schema.base``)."""

    place: Place
    value: Any
    marks: Mapping[str, Any]
    section: Section

    @property
    def place_text(self) -> str:
        """The key as users write it, such as ``rl.rewards.0.path``."""
        return dotted(self.place)

    @property
    def reference(self) -> tuple[str, str] | None:
        """Stage and file of ``stage:NAME`` (no file) or ``stage:NAME/FILE``; None for anything else."""
        return stage_reference(str(self.value)) if MAY_NAME_STAGE.items() <= self.marks.items() else None


def marked_values(section: Section, place: Place = ()) -> Iterator[MarkedValue]:
    """Yield every value, at any depth, whose key is marked and which is not null; entries of a list one by one."""
    for key, value in section:
        extra = type(section).model_fields[key].json_schema_extra
        yield from _marked(value, (*place, key), extra if isinstance(extra, dict) else _NO_MARKS, section)


def _marked(value: Any, place: Place, marks: Mapping[str, Any], section: Section) -> Iterator[MarkedValue]:
    if isinstance(value, Section):
        yield from marked_values(value, place)
    elif isinstance(value, dict | list):
        items: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _marked(inner, (*place, name), marks, section)
    elif marks and value is not None:
        yield MarkedValue(place, value, marks, section)
