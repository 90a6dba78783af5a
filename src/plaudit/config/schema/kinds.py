"""Sections of several kinds: the value of one key selects the class of the section."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from plaudit.config.schema.base import Section
from plaudit.registry import Registry


class Kinds:
    """The section classes that a field accepts, selected by ``key``: a registry and the field's validator.

    Use it as ``Annotated[Base, Kinds(Base, "kind", registry)]``. Every class is a subclass of ``base`` and has a
    default for ``key``. Without ``default`` the key is required. Classes may be registered later.
    """

    def __init__(self, base: type[Section], key: str, classes: Registry[type[Any]], default: str | None = None) -> None:
        self.base, self.key, self.classes, self.default = base, key, classes, default

    def __iter__(self) -> Iterator[type[Section]]:
        return (self.classes[name] for name in self.classes)

    @property
    def names(self) -> Any:
        """The type of the key: a ``Literal`` of the registered names."""
        return Literal[self.classes.names]

    def section_of(self, value: Any) -> type[Section]:
        """Return the class that a value of the configuration selects; ``base`` if it selects none."""
        name = value.get(self.key, self.default) if isinstance(value, dict) else value or self.default
        return self.classes[name] if isinstance(name, str) and name in self.classes else self.base

    def kinds_with(self, key: str) -> list[str]:
        """Return the names of the kinds that have a key."""
        return [name for name in self.classes if key in self.classes[name].model_fields]

    def validate(self, value: Any) -> Section:
        """Return the section. Raises ``ValidationError`` with a place relative to the field; pydantic adds the rest."""
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("model_type", "expected keys and values")
        name = value.get(self.key, self.default)
        if name is None:
            raise self._error("missing", value)
        if not isinstance(name, str) or name not in self.classes:
            raise self._error(PydanticCustomError("literal_error", "unknown"), name)
        section: Section = self.classes[name].model_validate(value)
        return section

    def _error(self, kind: Any, value: Any) -> ValidationError:
        return ValidationError.from_exception_data(
            self.base.__name__, [InitErrorDetails(type=kind, loc=(self.key,), input=value)]
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Serialize a value by its own class, not by the base class.
        as_it_is = core_schema.wrap_serializer_function_ser_schema(
            lambda value, write: write(value), schema=core_schema.any_schema()
        )
        return core_schema.no_info_plain_validator_function(self.validate, serialization=as_it_is)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema for editors: any of the classes."""
        return {"anyOf": [handler(section.__pydantic_core_schema__) for section in self]}
