"""Settings of all training stages, and the stages that train on a dataset."""

from typing import Annotated, Literal

from pydantic import Field

from plaudit.algorithms.catalogue import PREFERENCE_LOSSES, REWARD_LOSSES, preference_loss, reward_loss
from plaudit.config.schema.base import MAY_CHANGE, Fraction, Place, Positive, Section
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.models import ModelReference
from plaudit.config.schema.names import NameOf


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule."""

    learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="how it falls after the warm-up")
    final_fraction: Fraction = Field(0.1, description="fraction of the peak at which linear and cosine end")
    warmup_fraction: Fraction = Field(0.05, description="fraction of the steps over which it rises from zero")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay, on matrices only")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="decay of the gradient's running mean")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of its running square")
    epsilon: Annotated[float, Field(gt=0)] = Field(1e-8, description="added to the root of the running square")
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="gradients are clipped to this norm"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: a constant rate does not decay."""
        return {"final_fraction": "with schedule=constant"} if self.schedule == "constant" else {}


class StageConfig(Section):
    """Settings of every training stage."""

    model: ModelReference = Field(description="model to start from")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="see optimizer")
    token_budget: Positive = Field(
        8192,
        description="most token positions in one forward pass; memory and speed depend on it, results do not",
        json_schema_extra=MAY_CHANGE,
    )
    pack_length: Positive = Field(
        512, description="length of a packed row; results do not depend on it", json_schema_extra=MAY_CHANGE
    )
    checkpoint_every: Positive = Field(
        50, description="optimizer steps between checkpoints", json_schema_extra=MAY_CHANGE
    )
    keep_checkpoints: Positive = Field(2, description="newest checkpoints that are kept", json_schema_extra=MAY_CHANGE)
    evaluate_every: Positive = Field(50, description="optimizer steps (RL: iterations) between held-out measurements")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass", json_schema_extra=MAY_CHANGE
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        return {"pack_length": "with model.layout=padded"} if self.model.layout == "padded" else {}


class SupervisedStageConfig(StageConfig):
    """A training stage that trains on a dataset."""

    data: DataConfig = Field(description="rows to learn from")
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="passes over the data")
    max_steps: Positive | None = Field(None, description="stop after this many optimizer steps")
    batch_size: Positive = Field(32, description="prompts per optimizer step, over all processes")


class LanguageModelStageConfig(SupervisedStageConfig):
    """A training stage that trains a language model on a dataset."""

    sample_prompts: list[str] = Field(
        default_factory=list, description="prompts completed at every held-out measurement; default: held-out ones"
    )
    samples: int = Field(4, ge=0, description="how many sample completions")
    sample_tokens: Positive = Field(64, description="longest sample completion")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if self.sample_prompts:
            idle["samples"] = "with sample_prompts: each of them is completed"
        elif not self.samples:
            idle["sample_tokens"] = "with samples=0"
        return idle


class SftConfig(LanguageModelStageConfig):
    """Supervised fine-tuning: maximise the log-probability of the given responses."""

    rows: Literal["auto", "text", "response"] = Field(
        "auto", description="plain texts, or responses to prompts; auto: texts in pretrain, responses in sft"
    )
    loss_on: Literal["response", "all"] = Field("response", description="which tokens are learned")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if self.rows == "text":
            idle["loss_on"] = "with rows=text: a plain text has no prompt"
        return idle


class RewardConfig(SupervisedStageConfig):
    """A reward model from comparisons: pairs or K-way rankings."""

    loss: Annotated[str, NameOf(REWARD_LOSSES, functions=True)] = Field(
        "pairwise",
        description="logistic over all pairs of a prompt, or softmax of the best against the rest; or a function of "
        "your own",
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="margin per rank step that the score gap must exceed"
    )
    centering: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of the squared mean score")
    normalize: bool = Field(True, description="scale scores to mean 0 and variance 1 on the training responses")
    members: Positive = Field(
        1,
        description="train an ensemble of this many models, which differ in their heads' start and the order of the "
        "data; stage:reward is the first, stage:reward/member-2/model the second, and so on",
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if "margin" not in reward_loss(self.loss).defaults:
            idle["margin"] = f"with loss={self.loss}"
        return idle


class DpoConfig(LanguageModelStageConfig):
    """Direct preference optimisation (Rafailov et al. 2023) and its relatives: a policy from comparisons or labels."""

    model: ModelReference = Field(description="policy to start from; it is also the reference, for losses with one")
    loss: Annotated[str, NameOf(PREFERENCE_LOSSES, functions=True)] = Field(
        "dpo",
        description="plackett_luce learns whole rankings, kto labels; simpo and orpo need no reference; or a function "
        "of your own",
    )
    beta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="weight of the KL to the reference, or of the term that replaces it; default: the loss's own"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = Field(
        None, description="cdpo, robust_dpo: fraction of labels assumed to be wrong; default: that of the loss"
    )
    margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="simpo: margin that the reward gap must exceed; default: the loss's own"
    )
    desirable_weight: Annotated[float, Field(gt=0)] | None = Field(
        None, description="kto: weight of desirable responses; default: the loss's own"
    )
    undesirable_weight: Annotated[float, Field(gt=0)] | None = Field(
        None, description="kto: weight of undesirable responses; default: the loss's own"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: those that are not settings of the chosen loss."""
        idle = super().without_effect()
        settings = {setting for entry in PREFERENCE_LOSSES.values() for setting in entry.defaults}
        for setting in settings - set(preference_loss(self.loss).defaults):
            others = [name for name, entry in PREFERENCE_LOSSES.items() if setting in entry.defaults]
            idle[setting] = f"with loss={self.loss}; it needs loss={' or '.join(others)}"
        return idle

    def impossible(self) -> dict[Place, str]:
        """Return dropout, which would be taken for a difference between policy and reference."""
        if self.model.drops_out and preference_loss(self.loss).needs_reference:
            text = (
                "dropout would be taken for a difference between policy and reference: set model.dropout and "
                "model.lora.dropout to 0"
            )
            return {("model",): text}
        return {}
