"""Reinforcement learning: sampling, rewards, the KL penalty, and the stage."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from plaudit.config.schema.base import Fraction, Positive, Section
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.models import ModelReference
from plaudit.config.schema.rewards import RewardReference
from plaudit.config.schema.training import OptimizerConfig, StageConfig

GROUP_ADVANTAGES = ("rloo", "grpo", "dr_grpo", "reinforce++_baseline")
"""Estimators that compare the responses to one prompt with each other."""


class GenerationConfig(Section):
    """How responses are sampled."""

    max_new_tokens: Positive = Field(64, description="longest response")
    min_new_tokens: int = Field(0, ge=0, description="no end token before so many tokens")
    random_length: bool = Field(False, description="draw each response's limit from min_new_tokens to max_new_tokens")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0 takes the likeliest token")
    top_k: int = Field(0, ge=0, description="sample among the k likeliest tokens; 0 is off")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="sample among tokens of this total probability")
    stop: list[str] = Field(default_factory=list, description="strings that end a response")
    batch_size: Positive = Field(64, description="responses generated at a time; results do not depend on it")


class KlConfig(Section):
    """The penalty for leaving the reference policy."""

    placement: Literal["reward", "loss"] = Field(
        "reward", description="paid token by token as a negative reward, or added to the policy loss"
    )
    estimator: Literal["k1", "k2", "k3"] = Field(
        "k1", description="how the KL of a sampled token is estimated; the gradient is right with each"
    )
    coefficient: Annotated[float, Field(ge=0)] = Field(0.05, description="(initial) weight of the per-token KL")
    target: Annotated[float, Field(gt=0)] | None = Field(None, description="adapt the weight to this KL per sequence")
    horizon: Annotated[float, Field(gt=0)] = Field(10000.0, description="responses over which the weight adapts")
    budget: Annotated[float, Field(gt=0)] | None = Field(
        None, description="stop the stage when the KL per sequence exceeds this"
    )


class RlOptimizerConfig(OptimizerConfig):
    """AdamW as reinforcement learning uses it."""

    epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="added to the root of the running square; larger than elsewhere, as gradients can be tiny"
    )


class RlConfig(StageConfig):
    """Reinforcement learning from a reward: PPO (Schulman et al. 2017; Ziegler et al. 2019) and its relatives."""

    model: ModelReference = Field(description="policy to start from; it is also the reference")
    optimizer: RlOptimizerConfig = Field(default_factory=RlOptimizerConfig, description="see optimizer")
    prompts: DataConfig = Field(description="prompts to answer")
    rewards: list[RewardReference] = Field(min_length=1, description="reward sources; their weighted sum is the reward")
    weights: Literal["separate", "shared", "adapters"] = Field(
        "separate", description="policy, reference and value: separate models, a value head on the policy, or adapters"
    )
    value_model: str | None = Field(
        None, description="separate: start the value model from this reward model; default: from the policy"
    )
    objective: Literal["policy_gradient", "online_dpo", "best_of_n"] = Field(
        "policy_gradient",
        description="learn from advantages; from all pairs of a prompt's responses, judged by their scores (iterated "
        "DPO, with kl.coefficient as beta); or imitate the best response to each prompt (expert iteration)",
    )
    advantages: Literal["gae", "rloo", "grpo", "dr_grpo", "reinforce++", "reinforce++_baseline", "remax"] = Field(
        "gae", description="advantage estimator"
    )
    policy_loss: Literal["ppo", "gspo", "policy_gradient"] = Field(
        "ppo", description="clipped per token, clipped per response, or plain"
    )
    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum"] | None = Field(
        None, description="how token losses add up; default: the policy loss's own"
    )
    iterations: Positive = Field(100, description="rounds of generating and learning")
    prompts_per_iteration: Positive = Field(64, description="prompts per round, over all processes")
    responses_per_prompt: Positive = Field(
        1, description="responses to each prompt; what compares responses to one prompt needs at least 2"
    )
    dynamic_sampling: int = Field(
        0, ge=0, description="most further rounds of prompts per iteration, to replace those whose scores are all equal"
    )
    epochs: Positive = Field(4, description="passes over each round's responses")
    minibatches: Positive = Field(4, description="optimizer steps per pass; each takes an equal share of the prompts")
    generation: GenerationConfig = Field(default_factory=GenerationConfig, description="see generation")
    kl: KlConfig = Field(default_factory=KlConfig, description="see kl")
    gamma: Fraction = Field(1.0, description="discount")
    gae_lambda: Fraction = Field(0.95, description="GAE: bias against variance")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="the ratio is clipped to 1 ± clip; default: the policy loss's own"
    )
    clip_high: Annotated[float, Field(gt=0)] | None = Field(
        None, description="upper bound 1 + clip_high, where it is another; default: clip, or the policy loss's own"
    )
    dual_clip: Annotated[float, Field(gt=1)] | None = Field(
        None, description="bound on a token's loss where the advantage is negative, in multiples of the advantage"
    )
    importance_correction: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="weigh tokens by their probability in training over that in sampling, at most this; needed with "
        "top_k and top_p",
    )
    value_clip: Annotated[float, Field(gt=0)] | None = Field(0.2, description="value moves at most this far per round")
    value_coefficient: Annotated[float, Field(ge=0)] = Field(0.1, description="weight of the value loss")
    value_learning_rate: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="peak learning rate of the weights that the value function has alone, with weights=separate or "
        "adapters; default: the policy's",
    )
    entropy_coefficient: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of the entropy bonus")
    whiten_advantages: bool | None = Field(
        None,
        description="advantages to mean 0, variance 1 over all tokens of a round; default: the estimator's own, and "
        "none where the KL is in the loss, which whitening would not divide",
    )
    scale_rewards: bool = Field(False, description="divide scores by their running standard deviation")
    clip_rewards: Annotated[float, Field(gt=0)] | None = Field(None, description="scores are clipped to ± this")
    missing_eos_penalty: Annotated[float, Field(ge=0)] = Field(
        0.0, description="subtracted when a response did not end"
    )
    mask_truncated: bool = Field(False, description="learn nothing from responses that were cut at the limit")
    overlong_buffer: int = Field(
        0, ge=0, description="tokens before max_new_tokens over which a length penalty rises; 0: none"
    )
    overlong_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0, description="length penalty at max_new_tokens, subtracted from the score"
    )
    held_out_prompts: int = Field(64, ge=0, description="held-out prompts answered at every held-out measurement")

    @property
    def compares(self) -> str | None:
        """The setting that compares responses to one prompt with each other, if any."""
        if self.objective != "policy_gradient":
            return self.objective
        return self.advantages if self.advantages in GROUP_ADVANTAGES else None

    @model_validator(mode="after")
    def _consistent(self) -> "RlConfig":
        if self.responses_per_prompt < 2 and (self.compares or self.dynamic_sampling):
            raise ValueError(
                f"{self.compares or 'dynamic_sampling'} compares responses to one prompt: responses_per_prompt must "
                "be at least 2"
            )
        if (self.generation.top_k or self.generation.top_p < 1) and self.importance_correction is None:
            raise ValueError(
                "top_k and top_p sample from less than the distribution that learns: set importance_correction=2, or "
                "top_k=0 and top_p=1"
            )
        if self.policy_loss == "policy_gradient" and (self.clip or self.clip_high or self.dual_clip):
            raise ValueError("policy_gradient clips nothing: remove clip, clip_high and dual_clip, or choose ppo")
        if self.model.drops_out:
            raise ValueError(
                "dropout makes the policy that learns another one than the policy that sampled: set model.dropout=0 "
                "and model.lora.dropout=0"
            )
        if self.advantages == "grpo" and self.kl.placement == "reward" and self.kl.estimator != "k1":
            raise ValueError(
                "grpo divides by the spread of a group's scores, however small: its KL in the reward must be k1; or "
                "set kl.placement=loss, as its paper does, or advantages=dr_grpo"
            )
        if self.overlong_buffer > self.generation.max_new_tokens:
            raise ValueError("overlong_buffer is longer than generation.max_new_tokens: lower it")
        if self.prompts_per_iteration < self.minibatches:
            raise ValueError("minibatches are made of prompts: there are more of them than prompts_per_iteration")
        return self
