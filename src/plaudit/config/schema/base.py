"""What all sections of the schema share."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def named_by(key: str) -> Any:
    """Let a plain string stand for a section of which only ``key`` is given."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)
