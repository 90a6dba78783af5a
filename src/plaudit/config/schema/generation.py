"""How responses are sampled."""

from typing import Annotated

from pydantic import Field

from plaudit.config.schema.base import MAY_CHANGE, Place, Positive, Section
from plaudit.config.schema.engines import EngineReference, TransformersEngineConfig


class GenerationConfig(Section):
    """How responses are sampled."""

    engine: EngineReference = Field(default_factory=TransformersEngineConfig, description="what generates")
    max_new_tokens: Positive = Field(64, description="longest response")
    min_new_tokens: int = Field(0, ge=0, description="minimum number of tokens before the end token")
    random_length: bool = Field(False, description="draw each response's limit from min_new_tokens to max_new_tokens")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0 takes the likeliest token")
    top_k: int = Field(0, ge=0, description="sample among the k likeliest tokens; 0 is off")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="sample among tokens of this total probability")
    stop: list[str] = Field(default_factory=list, description="strings that end a response")
    batch_size: Positive = Field(
        64, description="responses generated at a time; results do not depend on it", json_schema_extra=MAY_CHANGE
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: at temperature 0 nothing is sampled, and equal limits fix the length."""
        idle: dict[str, str] = {}
        if self.temperature == 0:
            idle |= dict.fromkeys(("top_k", "top_p"), "with temperature=0, which takes the likeliest token")
        if max(self.min_new_tokens, 1) == self.max_new_tokens:
            idle["random_length"] = "where min_new_tokens and max_new_tokens are equal"
        return idle

    def impossible(self) -> dict[Place, str]:
        """Return limits that exclude every response."""
        if self.min_new_tokens > self.max_new_tokens:
            return {("min_new_tokens",): "it is larger than max_new_tokens: lower it"}
        return {}
