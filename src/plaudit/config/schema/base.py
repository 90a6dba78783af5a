"""The base class of all sections of the schema, and types that they share."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]

MAY_CHANGE: dict[str, Any] = {"may_change": True}
"""For ``json_schema_extra``: no result depends on the key, so it may change when a run is resumed."""
MAY_NAME_STAGE: dict[str, Any] = {"may_name_stage": True}
"""For ``json_schema_extra``: the text may be ``stage:NAME`` or ``stage:NAME/FILE``, the result of an earlier stage."""

Place = tuple[str | int, ...]
"""Keys and list indices, such as ``("rl", "rewards", 0, "weight")``."""


class Section(BaseModel):
    """A part of the configuration.

    Unknown keys are errors, strings are not converted to numbers, and sections are immutable. Setting a key that has no
    effect because of other keys is an error as well, see ``without_effect``.
    """

    # Strict: the YAML reader already distinguishes numbers from strings.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def without_effect(self) -> Mapping[Any, str]:
        """Return the keys that have no effect because of other keys of this section: key -> reason.

        A nested key is given by its place. The reason continues the sentence "has no effect", for example
        "with epochs=1".
        """
        return {}

    @property
    def idle_places(self) -> dict[Place, str]:
        """``without_effect`` by place."""
        return {key if isinstance(key, tuple) else (key,): why for key, why in self.without_effect().items()}

    @model_validator(mode="after")
    def _refuse_keys_without_effect(self) -> "Section":
        given = {place: why for place, why in self.idle_places.items() if _is_given(self, place)}
        if given:
            raise problems_at(self, given, "no_effect")
        return self


def _is_given(section: Section, place: Place) -> bool:
    """Whether a key is set to a value other than null or false, which only switch something off."""
    value: Any = section
    for key in place[:-1]:
        value = getattr(value, key) if isinstance(key, str) and isinstance(value, Section) else value[key]
    key = str(place[-1])
    return key in value.model_fields_set and getattr(value, key) not in (None, False)


def problems_at(section: Section, problems: Mapping[Place, str], kind: str = "problem") -> ValidationError:
    """Return an error with a message per place; places are relative to the section."""
    return ValidationError.from_exception_data(
        type(section).__name__,
        [
            InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": text}), loc=place, input=None)
            for place, text in problems.items()
        ],
    )


def has_mark(field: FieldInfo, mark: Mapping[str, Any]) -> bool:
    """Whether a key has ``MAY_CHANGE`` or ``MAY_NAME_STAGE``."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and mark.items() <= extra.items()


def named_by(key: str) -> Any:
    """Accept a plain string as a section in which only ``key`` is set."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)
