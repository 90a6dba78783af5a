"""What all sections of the schema share."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration.

    Unknown keys are errors, a string is not a number, and values never change after loading. A key that is given
    although other keys leave it without effect is an error as well, see ``without_effect``.
    """

    # Strict: the YAML reader has already told numbers from strings.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def without_effect(self) -> Mapping[str, str]:
        """Return the keys that change nothing, as the other keys of this section are: key -> what it needs."""
        return {}

    @model_validator(mode="after")
    def _refuse_keys_without_effect(self) -> "Section":
        # null and false switch something off, which is no contradiction.
        idle = {
            key: remedy
            for key, remedy in self.without_effect().items()
            if key in self.model_fields_set and getattr(self, key) is not None and getattr(self, key) is not False
        }
        if idle:
            raise problems_at(self, {(key,): f"has no effect: {remedy}" for key, remedy in idle.items()})
        return self


def problems_at(section: Section, problems: Mapping[tuple[str | int, ...], str]) -> ValidationError:
    """Return an error with a message for each place, which is counted from the section."""
    return ValidationError.from_exception_data(
        type(section).__name__,
        [
            InitErrorDetails(type=PydanticCustomError("problem", "{text}", {"text": text}), loc=place, input=None)
            for place, text in problems.items()
        ],
    )


def named_by(key: str) -> Any:
    """Let a plain string stand for a section of which only ``key`` is given."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Registered:
    """The validator of a text that is a name in a registry, which may grow, or one of ``others``.

    Use it as ``Annotated[str, Registered(REGISTRY)]``.
    """

    def __init__(self, registry: Collection[str], *others: str) -> None:
        self.registry = registry
        self.others = others

    @property
    def names(self) -> list[str]:
        """The names that there are now."""
        return [*self.others, *self.registry]

    def validate(self, name: str) -> str:
        """Return the name, or raise what pydantic raises for a ``Literal``."""
        if name not in self.names:
            raise PydanticCustomError("literal_error", "unknown")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.validate, handler(source))
