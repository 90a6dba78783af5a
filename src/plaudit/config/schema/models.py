"""Sections that name a model and how its weights are stored."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from plaudit.config.schema.base import (
    NAMES_CLASSIFIER,
    NAMES_MODEL,
    NAMES_TOKENIZER,
    NEEDS_QUANTIZATION,
    Fraction,
    NamedBy,
    Positive,
    Section,
)
from plaudit.config.schema.names import NameOf
from plaudit.registries.layouts import LAYOUTS

TRUST = "run the Python code in the model's folder or hub repository, with all your rights, if it has any"


class FreshModel(Section):
    """A model with random weights."""

    architecture: str = Field("llama", description="name of a transformers model type: llama, gpt2, qwen2, …")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="values for the configuration of that model type; the vocabulary size comes from the tokenizer",
    )


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021), implemented by peft. The plain string ``continue`` means ``start``."""

    start: Literal["new", "continue"] = Field(
        "new",
        description="new: adapters that change nothing at first; continue: the adapter in the folder model.path, with "
        "its rank, alpha and targets",
    )
    rank: Positive = Field(16, description="rank of the weight update")
    alpha: float = Field(32.0, description="the update is scaled by alpha / rank")
    dropout: Fraction = Field(0.0, description="dropout before the adapter")
    targets: str | list[str] = Field(
        "all-linear",
        description="modules that get an adapter: ends of their names, or a regular expression for complete names",
    )

    @property
    def continues(self) -> bool:
        """Whether a saved adapter is trained further."""
        return self.start == "continue"

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: the saved adapter determines its size and place."""
        why = "with start=continue, where the saved adapter determines it"
        return dict.fromkeys(("rank", "alpha", "targets"), why) if self.continues else {}


class ModelConfig(Section):
    """A model to start from, and how its weights are stored. A plain string means ``path``."""

    path: str | None = Field(
        None, description="folder, hub name, or stage:NAME for a stage of this run", json_schema_extra=NAMES_MODEL
    )
    fresh: FreshModel | None = Field(None, description="create a model with random weights instead of loading path")
    tokenizer: str | None = Field(
        None, description="folder, hub name or stage:NAME; default: the model's own", json_schema_extra=NAMES_TOKENIZER
    )
    pad_token: str | None = Field(None, description="padding token, instead of the tokenizer's own")
    eos_token: str | None = Field(None, description="end-of-sequence token, instead of the tokenizer's own")
    chat_template: str | None = Field(None, description="Jinja chat template, instead of the tokenizer's own")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type in which weights are held")
    dropout: Fraction = Field(0.0, description="value for every dropout rate of the model")
    layout: Annotated[str, NameOf(LAYOUTS, "auto")] = Field(
        "auto", description="auto: packed if a check at loading shows that packing is exact, otherwise padded"
    )
    lora: Annotated[LoraConfig, NamedBy("start")] | None = Field(
        None, description="train low-rank adapters instead of all weights; continue: the one in path"
    )
    quantization: Literal["4bit", "8bit"] | None = Field(
        None, description="store the frozen weights in 4 or 8 bits", json_schema_extra=NEEDS_QUANTIZATION
    )
    trust_remote_code: bool = Field(False, description=TRUST)

    @property
    def drops_out(self) -> bool:
        """Whether dropout makes the model compute differently in training than in evaluation."""
        return bool(self.dropout or (self.lora and self.lora.dropout))

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelConfig":
        if (self.path is None) == (self.fresh is None):
            raise ValueError("set exactly one of path and fresh")
        if self.fresh and not self.tokenizer:
            raise ValueError("a fresh model needs a tokenizer: set tokenizer to a folder, a hub name or stage:NAME")
        if self.fresh and self.lora and self.lora.continues:
            raise ValueError("a fresh model has no adapter: set path to an adapter folder, or lora.start to new")
        return self

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: random weights are not quantized."""
        return {"quantization": "on a fresh model"} if self.fresh else {}


class WeightsConfig(Section):
    """How the weights of a frozen model are stored."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type in which weights are held")
    quantization: Literal["4bit", "8bit"] | None = Field(
        None, description="store the weights in 4 or 8 bits", json_schema_extra=NEEDS_QUANTIZATION
    )
    trust_remote_code: bool = Field(False, description=TRUST)

    def model_at(self, path: str) -> ModelConfig:
        """Return the configuration of the model in ``path`` with this section's settings."""
        return ModelConfig(path=path, **{name: getattr(self, name) for name in WeightsConfig.model_fields})


class TrainedModelConfig(WeightsConfig):
    """A trained, frozen model. A plain string means ``path``."""

    path: str = Field(description="folder, hub name or stage:NAME", json_schema_extra=NAMES_CLASSIFIER)


ModelReference = Annotated[ModelConfig, NamedBy("path")]
TrainedModelReference = Annotated[TrainedModelConfig, NamedBy("path")]
