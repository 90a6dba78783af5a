"""The stages that go over a dataset, and what every training stage has."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from plaudit.config.schema.base import Fraction, Positive, Section
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.models import ModelReference


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule."""

    learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="how it falls after the warm-up")
    final_fraction: Fraction = Field(0.1, description="share of the peak that linear and cosine end at")
    warmup_fraction: Fraction = Field(0.05, description="share of the steps over which it rises from zero")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay, on matrices only")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="decay of the gradient's running mean")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of its running square")
    epsilon: Annotated[float, Field(gt=0)] = Field(1e-8, description="added to the root of the running square")
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="gradients are clipped to this norm"
    )


class StageConfig(Section):
    """What every training stage has."""

    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="see optimizer")
    token_budget: Positive = Field(
        8192, description="most token positions in one forward pass; memory and speed depend on it, results do not"
    )
    pack_length: Positive = Field(512, description="length of a packed row; results do not depend on it")
    checkpoint_every: Positive = Field(50, description="optimizer steps between checkpoints")
    keep_checkpoints: Positive = Field(2, description="newest checkpoints that are kept")
    evaluate_every: Positive = Field(50, description="optimizer steps (RL: iterations) between held-out measurements")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass")


class SupervisedStageConfig(StageConfig):
    """A training stage that goes over a dataset."""

    model: ModelReference = Field(description="model to start from")
    data: DataConfig = Field(description="rows to learn from")
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="passes over the data")
    max_steps: Positive | None = Field(None, description="stop after so many optimizer steps")
    batch_size: Positive = Field(32, description="prompts per optimizer step, over all processes")


class LanguageModelStageConfig(SupervisedStageConfig):
    """A training stage over a dataset that makes a language model."""

    sample_prompts: list[str] = Field(
        default_factory=list, description="prompts completed at every held-out measurement; default: held-out ones"
    )
    samples: int = Field(4, ge=0, description="how many sample completions")
    sample_tokens: Positive = Field(64, description="longest sample completion")


class SftConfig(LanguageModelStageConfig):
    """Supervised fine-tuning: maximise the log-probability of the given responses."""

    rows: Literal["auto", "text", "response"] = Field(
        "auto", description="plain texts, or responses to prompts; auto: texts in pretrain, responses in sft"
    )
    loss_on: Literal["response", "all"] = Field("response", description="which tokens are learned")


class RewardConfig(SupervisedStageConfig):
    """A reward model from comparisons: pairs or K-way rankings."""

    loss: Literal["pairwise", "best_of_k"] = Field(
        "pairwise", description="logistic over all pairs of a prompt, or softmax of the best against the rest"
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="margin per rank step that the score gap must exceed"
    )
    centering: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of the squared mean score")
    normalize: bool = Field(True, description="scale scores to mean 0 and variance 1 on the training responses")
    members: Positive = Field(
        1,
        description="train an ensemble of so many models, which differ in their heads' start and the order of the "
        "data; stage:reward is the first, stage:reward/member-2/model the second, and so on",
    )


PreferenceLossName = Literal["dpo", "cdpo", "robust_dpo", "ipo", "plackett_luce", "kto", "simpo", "orpo"]
LOSSES_WITH: dict[str, tuple[PreferenceLossName, ...]] = {
    "label_smoothing": ("cdpo", "robust_dpo"),
    "margin": ("simpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
"""Settings that only some losses of the stage dpo have. Their defaults are in the registry of these losses."""
LOSSES_WITHOUT_REFERENCE = ("simpo", "orpo")


class DpoConfig(LanguageModelStageConfig):
    """Direct preference optimisation (Rafailov et al. 2023) and its relatives: a policy from comparisons or labels."""

    model: ModelReference = Field(description="policy to start from; it is also the reference, for losses with one")
    loss: PreferenceLossName = Field(
        "dpo", description="plackett_luce learns whole rankings, kto labels; simpo and orpo need no reference"
    )
    beta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="weight of the KL to the reference, or of what takes its place; default: the loss's own"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = Field(
        None, description="cdpo, robust_dpo: share of the labels taken to be wrong; default: the loss's own"
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

    @model_validator(mode="after")
    def _consistent(self) -> "DpoConfig":
        for setting, losses in LOSSES_WITH.items():
            if getattr(self, setting) is not None and self.loss not in losses:
                raise ValueError(f"{self.loss} has no {setting}: remove it, or choose loss={' or '.join(losses)}")
        if self.model.drops_out and self.loss not in LOSSES_WITHOUT_REFERENCE:
            raise ValueError(
                "dropout would be taken for a difference between policy and reference: set model.dropout and "
                "model.lora.dropout to 0"
            )
        return self
