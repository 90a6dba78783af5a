"""The base class of all sections of the schema, and types that they share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

LARGEST_COUNT = 10**9
"""Limit of whole numbers: more would not fit any memory or lifetime."""
MOST_RESPONSES = 10**6
"""Limit of responses that are sampled before any of them is used: more would not fit the memory."""
LARGEST_FLOAT = 1e30
"""Limit of other numbers: products of larger ones leave the range of float32."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


def largest(limit: float) -> dict[str, Any]:
    """For ``json_schema_extra``: a limit of the number, instead of the general one."""
    return {"largest": limit}


MAY_CHANGE: dict[str, Any] = {"may_change": True}
"""For ``json_schema_extra``: no result depends on the key, so it may change when a run is resumed."""
MAY_NAME_STAGE: dict[str, Any] = {"may_name_stage": True}
"""For ``json_schema_extra``: the text may be ``stage:NAME`` or ``stage:NAME/FILE``, the result of an earlier stage."""

# For ``json_schema_extra``: what the text names. ``plaudit.stages.preflight`` checks it before the first stage starts.
NAMES_MODEL: dict[str, Any] = {**MAY_NAME_STAGE, "names": "model"}
NAMES_REWARD_MODEL: dict[str, Any] = {**MAY_NAME_STAGE, "names": "reward model"}
NAMES_CLASSIFIER: dict[str, Any] = {**MAY_NAME_STAGE, "names": "classifier"}
NAMES_TOKENIZER: dict[str, Any] = {**MAY_NAME_STAGE, "names": "tokenizer"}
NAMES_DATA: dict[str, Any] = {**MAY_NAME_STAGE, "names": "data"}
NAMES_FILE: dict[str, Any] = {**MAY_NAME_STAGE, "names": "file"}
NAMES_FORMAT: dict[str, Any] = {"names": "format"}
NAMES_FUNCTION: dict[str, Any] = {"names": "function"}
NAMES_VARIABLE: dict[str, Any] = {"names": "environment variable"}
NAMES_PROGRAM: dict[str, Any] = {"names": "program"}
NEEDS_QUANTIZATION: dict[str, Any] = {
    "requires": "bitsandbytes>=0.45",
    "install": "pip install 'plaudit[quantization]'",
}
"""For ``json_schema_extra``: a key that, when it is set, needs an optional package."""

Place = tuple[str | int, ...]
"""Keys and list indices, such as ``("rl", "rewards", 0, "weight")``."""


class Section(BaseModel):
    """A part of the configuration.

    Unknown keys, NaN and infinities are errors, strings are not converted to numbers, and sections are immutable.
    Setting a key that has no effect because of other keys is an error as well, see ``without_effect``.
    """

    # Strict: the YAML reader already distinguishes numbers from strings.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

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

    def impossible(self) -> Mapping[Place, str]:
        """Return the combinations of values that cannot work: place -> what is wrong and what to do."""
        return {}

    def _too_large(self) -> Iterator[tuple[Place, str]]:
        for key, value in self:
            limit = _extra(type(self).model_fields[key]).get("largest")
            default = LARGEST_COUNT if isinstance(value, int) else LARGEST_FLOAT
            if isinstance(value, int | float) and abs(value) > (limit or default):
                yield (key,), f"{value:.6g} is too large: the limit is {limit or default:.6g}"

    @model_validator(mode="after")
    def _check_combinations(self) -> "Section":
        idle = {place: why for place, why in self.idle_places.items() if _is_given(self, place)}
        large = dict(self._too_large())
        problems = [*_details(idle, "no_effect"), *_details(self.impossible(), "problem"), *_details(large, "problem")]
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self


def _is_given(section: Section, place: Place) -> bool:
    """Whether a key is set to a value other than null or false, which only switch something off."""
    value: Any = section
    for key in place[:-1]:
        value = getattr(value, key) if isinstance(key, str) and isinstance(value, Section) else value[key]
    key = str(place[-1])
    return key in value.model_fields_set and getattr(value, key) not in (None, False)


def _details(problems: Mapping[Place, str], kind: str) -> list[InitErrorDetails]:
    """Return pydantic's details of problems; places are relative to the section."""
    return [
        InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": text}), loc=place, input=None)
        for place, text in problems.items()
    ]


def has_mark(field: FieldInfo, mark: Mapping[str, Any]) -> bool:
    """Whether a key has ``MAY_CHANGE`` or ``MAY_NAME_STAGE``."""
    return mark.items() <= _extra(field).items()


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


@dataclass(frozen=True)
class NamedBy:
    """A constraint on a section: a plain string is accepted as a section in which only ``key`` is set.

    Use it as ``Annotated[SomeSection, NamedBy("path")]``.
    """

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: {self.key: value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}
