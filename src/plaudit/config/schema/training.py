"""Settings of all training stages, and the stages that train on a dataset."""

from typing import Annotated, Any, Literal

from pydantic import Field

from plaudit.algorithms.catalogue import PREFERENCE_LOSSES, REWARD_LOSSES, preference_loss, reward_loss
from plaudit.config.schema.base import MAY_CHANGE, Fraction, Place, Positive, Section, largest
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.engines import EngineReference, TransformersEngineConfig
from plaudit.config.schema.models import ModelReference
from plaudit.config.schema.names import NameOf


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule."""

    learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    final_fraction: Fraction = Field(
        0.1, description="learning rate at the end of linear and cosine, as a fraction of the peak"
    )
    warmup_fraction: Fraction = Field(
        0.05, description="fraction of the steps over which the learning rate rises from zero"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay, on matrices only")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="decay of the gradient's running mean")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of the gradient's running mean square")
    epsilon: Annotated[float, Field(gt=0)] = Field(1e-8, description="added to the root of the running mean square")
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="gradients are clipped to this norm"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: a constant rate does not decay."""
        return {"final_fraction": "with schedule=constant"} if self.schedule == "constant" else {}


class StageConfig(Section):
    """Settings of every training stage."""

    model: ModelReference = Field(description="model to start from")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="optimizer and learning rate")
    token_budget: Positive = Field(
        8192,
        description="maximum number of token positions in one forward pass; affects memory and speed, and results only "
        "by rounding and, with dropout, by what is dropped",
        json_schema_extra=MAY_CHANGE,
    )
    pack_length: Positive = Field(
        512,
        description="length of a packed row; affects speed, and results only by rounding and, with dropout, by what is "
        "dropped",
        json_schema_extra=MAY_CHANGE,
    )
    checkpoint_every: Positive = Field(
        50, description="optimizer steps between checkpoints", json_schema_extra=MAY_CHANGE
    )
    keep_checkpoints: Positive = Field(
        2, description="number of newest checkpoints to keep", json_schema_extra=MAY_CHANGE
    )
    evaluate_every: Positive = Field(
        50, description="optimizer steps (in rl: iterations) between held-out measurements"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass, to save memory", json_schema_extra=MAY_CHANGE
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        return {"pack_length": "with model.layout=padded"} if self.model.layout == "padded" else {}


class SupervisedStageConfig(StageConfig):
    """A training stage that trains on a dataset."""

    data: DataConfig = Field(description="rows to learn from")
    epochs: Annotated[float, Field(gt=0)] = Field(
        1.0, description="passes over the data", json_schema_extra=largest(10**6)
    )
    max_steps: Positive | None = Field(None, description="stop after this many optimizer steps")
    batch_size: Positive = Field(32, description="prompts per optimizer step, over all processes")
    max_held_out: Positive = Field(
        2000, description="measure on at most this many held-out rows, drawn once; no other held-out row is used"
    )


class LanguageModelStageConfig(SupervisedStageConfig):
    """A training stage that trains a language model on a dataset."""

    sample_prompts: list[str] = Field(
        default_factory=list, description="prompts completed at every held-out measurement; default: held-out prompts"
    )
    samples: int = Field(4, ge=0, description="number of sample completions")
    sample_tokens: Positive = Field(64, description="maximum number of tokens of a sample completion")
    sample_engine: EngineReference = Field(
        default_factory=TransformersEngineConfig, description="engine that generates the sample completions"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if self.sample_prompts:
            idle["samples"] = "with sample_prompts, all of which are completed"
        elif not self.samples:
            idle |= dict.fromkeys(("sample_tokens", "sample_engine"), "with samples=0")
        return idle


class SftConfig(LanguageModelStageConfig):
    """Supervised fine-tuning: maximize the log-probability of the given responses."""

    rows: Literal["auto", "text", "response"] = Field(
        "auto", description="text: plain texts; response: responses to prompts; auto: text in pretrain, response in sft"
    )
    loss_on: Literal["response", "all"] = Field("response", description="which tokens are trained on")
    learn_turns: Literal["all", "last"] = Field(
        "all", description="which turns of the assistant in a dialogue are responses; rows may exclude turns"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if self.loss_on == "all":
            idle["learn_turns"] = "with loss_on=all, because all turns are trained on"
        if self.rows == "text":
            idle |= dict.fromkeys(("loss_on", "learn_turns"), "with rows=text, because a plain text has no prompt")
        return idle


LossSettings = dict[str, float]
LOSS_SETTINGS: Any = Field(default_factory=dict, description="numbers that your own loss gets as inputs.settings")
BUILT_IN_LOSS = "with {}; only a loss of your own, module:function, has settings here"


class RewardConfig(SupervisedStageConfig):
    """Training of a reward model on comparisons: pairs or K-way rankings."""

    loss: Annotated[str, NameOf(REWARD_LOSSES, functions=True)] = Field(
        "pairwise",
        description="pairwise: logistic loss over all pairs of a prompt; best_of_k: softmax over a prompt's responses "
        "with the best one as the target; module:function: your own",
    )
    loss_settings: LossSettings = LOSS_SETTINGS
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="margin by which two scores must differ, per rank between them"
    )
    centering: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of a penalty on the squared mean score of each prompt"
    )
    normalize: bool = Field(
        True, description="scale scores to mean 0 and variance 1 on at most 4,096 training responses"
    )
    members: Positive = Field(
        1,
        description="number of models to train as an ensemble; they differ in the initial weights of their heads and "
        "in the order of the data; stage:reward is the first, stage:reward/member-2/model the second, and so on",
        json_schema_extra=largest(1000),
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect."""
        idle = super().without_effect()
        if "margin" not in reward_loss(self.loss).defaults:
            idle["margin"] = f"with loss={self.loss}"
        if ":" not in self.loss:
            idle["loss_settings"] = BUILT_IN_LOSS.format(f"loss={self.loss}")
        return idle


class DpoConfig(LanguageModelStageConfig):
    """Direct preference optimization (Rafailov et al. 2023) and related losses, on comparisons or labels."""

    model: ModelReference = Field(description="policy to start from; losses with a reference use it as the reference")
    loss: Annotated[str, NameOf(PREFERENCE_LOSSES, functions=True)] = Field(
        "dpo",
        description="plackett_luce uses whole rankings, kto labels, the others pairs; simpo and orpo have no "
        "reference; module:function: your own",
    )
    loss_settings: LossSettings = LOSS_SETTINGS
    beta: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="weight of the KL to the reference, or of the term that replaces it; default: depends on the loss",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = Field(
        None, description="cdpo, robust_dpo: fraction of labels assumed to be wrong; default: depends on the loss"
    )
    margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="simpo: margin by which the rewards must differ; default: depends on the loss"
    )
    desirable_weight: Annotated[float, Field(gt=0)] | None = Field(
        None, description="kto: weight of desirable responses; default: depends on the loss"
    )
    undesirable_weight: Annotated[float, Field(gt=0)] | None = Field(
        None, description="kto: weight of undesirable responses; default: depends on the loss"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: those that are not settings of the chosen loss."""
        idle = super().without_effect()
        if ":" not in self.loss:
            idle["loss_settings"] = BUILT_IN_LOSS.format(f"loss={self.loss}")
        settings = {setting for entry in PREFERENCE_LOSSES.values() for setting in entry.defaults}
        for setting in settings - set(preference_loss(self.loss).defaults):
            others = [name for name, entry in PREFERENCE_LOSSES.items() if setting in entry.defaults]
            idle[setting] = f"with loss={self.loss}; it needs loss={' or '.join(others)}"
        return idle

    def impossible(self) -> dict[Place, str]:
        """Return dropout, which would be taken for a difference between policy and reference."""
        if self.model.drops_out and preference_loss(self.loss).needs_reference:
            text = (
                "with dropout, the policy would differ from the reference before any training: set model.dropout and "
                "model.lora.dropout to 0"
            )
            return {("model",): text}
        return {}
