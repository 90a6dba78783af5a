"""How responses are sampled."""

from typing import Annotated

from pydantic import Field

from plaudit.config.schema.base import MAY_CHANGE, Place, Positive, Section
from plaudit.config.schema.engines import EngineReference, TransformersEngineConfig

LOWEST_TEMPERATURE = 1e-4
"""Divided by a lower temperature, scores leave the range in which float32 is exact."""


class GenerationConfig(Section):
    """How responses are sampled."""

    engine: EngineReference = Field(default_factory=TransformersEngineConfig, description="generation engine")
    max_new_tokens: Positive = Field(64, description="maximum number of tokens of a response")
    min_new_tokens: int = Field(0, ge=0, description="minimum number of tokens before the end token")
    random_length: bool = Field(False, description="draw each response's limit from min_new_tokens to max_new_tokens")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0: always the most likely token")
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0: from all")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="sample from the fewest tokens whose probabilities sum to at least this"
    )
    stop: list[str] = Field(default_factory=list, description="strings that end a response")
    batch_size: Positive = Field(
        64,
        description="responses generated at a time; affects results only by rounding",
        json_schema_extra=MAY_CHANGE,
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: temperature 0 does not sample, and equal limits fix the length."""
        idle: dict[str, str] = {}
        if self.temperature == 0:
            idle |= dict.fromkeys(("top_k", "top_p"), "with temperature=0, which always takes the most likely token")
        if max(self.min_new_tokens, 1) == self.max_new_tokens:
            idle["random_length"] = "with min_new_tokens equal to max_new_tokens"
        return idle

    def impossible(self) -> dict[Place, str]:
        """Return what the engine does not support, and limits that exclude every response."""
        problems: dict[Place, str] = {(key,): why for key, why in self.engine.unsupported(self).items()}
        if self.min_new_tokens > self.max_new_tokens:
            problems["min_new_tokens",] = "larger than max_new_tokens: lower it"
        if 0 < self.temperature < LOWEST_TEMPERATURE:
            problems["temperature",] = f"must be 0 or at least {LOWEST_TEMPERATURE}"
        return problems
