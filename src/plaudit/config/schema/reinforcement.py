"""Reinforcement learning: the stage, its optimizer and the KL penalty."""

from typing import Annotated, Any, Literal

from pydantic import Field

from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES, AdvantageEntry, advantage, policy_loss
from plaudit.config.schema.base import MOST_RESPONSES, NAMES_REWARD_MODEL, Fraction, Place, Positive, Section
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.generation import GenerationConfig
from plaudit.config.schema.models import ModelReference
from plaudit.config.schema.names import NameOf
from plaudit.config.schema.rewards import RewardReference, repeated_names
from plaudit.config.schema.training import BUILT_IN_LOSS, LOSS_SETTINGS, LossSettings, OptimizerConfig, StageConfig


class RlOptimizerConfig(OptimizerConfig):
    """AdamW with the defaults of reinforcement learning."""

    epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-5,
        description="added to the root of the running mean square; larger than in other stages, because gradients can "
        "be tiny",
    )


class KlConfig(Section):
    """The penalty on the KL divergence from the reference policy."""

    placement: Literal["reward", "loss"] = Field(
        "reward", description="reward: subtracted from the reward of each token; loss: added to the policy loss"
    )
    estimator: Literal["k1", "k2", "k3"] = Field(
        "k1",
        description="per-token estimator; in the loss, the gradient of each is corrected, but k2 stays biased, see "
        "docs/algorithms/kl.md",
    )
    coefficient: Annotated[float, Field(ge=0)] = Field(
        0.05, description="weight of the KL, or its initial value if target is set; beta of online DPO"
    )
    target: Annotated[float, Field(gt=0)] | None = Field(
        None, description="adapt the coefficient to reach this KL per response, in nats"
    )
    horizon: Annotated[float, Field(gt=0)] = Field(
        10000.0, description="number of responses over which the coefficient adapts"
    )
    budget: Annotated[float, Field(gt=0)] | None = Field(
        None, description="end the stage when the KL per response exceeds this, in nats"
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: those of the penalty if it is 0, and the horizon without a target."""
        if self.coefficient == 0:
            return dict.fromkeys(("placement", "estimator", "target", "horizon"), "with coefficient=0")
        return {} if self.target is not None else {"horizon": "without a target"}


class RlConfig(StageConfig):
    """Reinforcement learning from a reward: PPO (Schulman et al. 2017; Ziegler et al. 2019), GRPO and others."""

    model: ModelReference = Field(description="policy to start from, and the reference")
    optimizer: RlOptimizerConfig = Field(default_factory=RlOptimizerConfig, description="optimizer and learning rate")
    prompts: DataConfig = Field(description="prompts to answer")
    rewards: list[RewardReference] = Field(min_length=1, description="reward sources; their weighted sum is the reward")
    objective: Literal["policy_gradient", "online_dpo", "best_of_n"] = Field(
        "policy_gradient",
        description="policy_gradient: advantages; online_dpo: DPO on all pairs of a prompt's responses, judged by "
        "their scores, with kl.coefficient as beta; best_of_n: imitate the best response to each prompt (expert "
        "iteration)",
    )
    weights: Literal["separate", "shared", "adapters"] = Field(
        "separate",
        description="separate: policy, reference and value function are separate models; shared: the value function "
        "is a head on the policy; adapters: policy and value function are LoRA adapters on the frozen reference",
    )
    value_model: str | None = Field(
        None,
        description="reward model to start the value model from; default: the policy",
        json_schema_extra=NAMES_REWARD_MODEL,
    )
    advantages: Annotated[str, NameOf(ADVANTAGES, functions=True)] = Field(
        "gae", description="advantage estimator; module:function: your own"
    )
    policy_loss: Annotated[str, NameOf(POLICY_LOSSES, functions=True)] = Field(
        "ppo",
        description="ppo: clipped per token; gspo: clipped per response; policy_gradient: not clipped; "
        "module:function: your own",
    )
    policy_loss_settings: LossSettings = LOSS_SETTINGS
    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum"] | None = Field(
        None,
        description="token_mean: mean over the tokens of a step; sequence_mean: mean over each response's tokens, then "
        "over responses; sequence_sum: sum over each response's tokens, then mean over responses; default: depends on "
        "the policy loss",
    )
    iterations: Positive = Field(100, description="number of iterations; each samples responses and trains on them")
    prompts_per_iteration: Positive = Field(64, description="prompts per iteration, over all processes")
    responses_per_prompt: Positive = Field(
        1, description="responses to each prompt; at least 2 for algorithms that compare responses to the same prompt"
    )
    dynamic_sampling: int = Field(
        0,
        ge=0,
        description="maximum number of rounds per iteration that replace prompts whose responses all have the same "
        "score (DAPO); 0: off",
    )
    epochs: Positive = Field(4, description="passes over the responses of an iteration")
    minibatches: Positive = Field(
        4,
        description="optimizer steps per pass; they divide the prompts as evenly as possible: if the numbers do not "
        "divide, the first steps use one prompt more",
    )
    generation: GenerationConfig = Field(default_factory=GenerationConfig, description="how responses are sampled")
    kl: KlConfig = Field(default_factory=KlConfig, description="KL penalty")
    gamma: Fraction = Field(1.0, description="discount factor")
    gae_lambda: Fraction = Field(0.95, description="lambda of GAE; a higher value has less bias and more variance")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="the ratio is clipped to 1 ± clip; default: depends on the policy loss"
    )
    clip_high: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="the ratio is clipped from above to 1 + clip_high; default: clip, or depends on the policy loss",
    )
    dual_clip: Annotated[float, Field(gt=1)] | None = Field(
        None, description="for negative advantages, the loss of a token is at most dual_clip times the advantage's size"
    )
    importance_correction: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="weight each token by its probability in training divided by that in sampling, but at most by "
        "this; top_k and top_p require this or importance_mask",
    )
    importance_mask: list[Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="instead of importance_correction: the same weights, but zero outside of this range around 1, such "
        "as [0.5, 5] (IcePop)",
    )
    value_clip: Annotated[float, Field(gt=0)] | None = Field(
        0.2, description="clip range of the value loss; null: no clipping; nothing limits the values themselves"
    )
    value_coefficient: Annotated[float, Field(ge=0)] = Field(0.1, description="weight of the value loss")
    value_learning_rate: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="peak learning rate of the value function's own weights, with weights=separate or adapters; "
        "default: the policy's",
    )
    entropy_coefficient: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of the entropy bonus")
    whiten_advantages: bool | None = Field(
        None,
        description="rescale advantages to mean 0 and variance 1 over all tokens of an iteration; default: depends on "
        "the estimator; false with kl.placement=loss, because the KL would not be rescaled",
    )
    scale_rewards: bool = Field(False, description="divide scores by their running standard deviation")
    mask_truncated: bool = Field(False, description="do not train on responses that were cut at the length limit")
    clip_rewards: Annotated[float, Field(gt=0)] | None = Field(None, description="scores are clipped to ± this")
    missing_eos_penalty: Annotated[float, Field(ge=0)] = Field(
        0.0, description="subtracted from the score of a response that did not end"
    )
    overlong_buffer: int = Field(
        0, ge=0, description="number of tokens before max_new_tokens over which a length penalty rises; 0: no penalty"
    )
    overlong_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0, description="length penalty at max_new_tokens, subtracted from the score"
    )
    held_out_prompts: int = Field(
        64, ge=0, description="number of held-out prompts answered at every held-out measurement"
    )

    @property
    def estimator(self) -> AdvantageEntry | None:
        """The advantage estimator; None for objectives that do not use advantages."""
        return advantage(self.advantages) if self.objective == "policy_gradient" else None

    @property
    def uses_values(self) -> bool:
        """Whether a value function is trained with the policy."""
        return self.estimator is not None and self.estimator.uses_values

    @property
    def corrects_importance(self) -> bool:
        """Whether tokens are weighted by the ratio of training to sampling."""
        return self.importance_correction is not None or self.importance_mask is not None

    @property
    def uses_greedy(self) -> bool:
        """Whether the score of a greedy response to each prompt is needed."""
        return self.estimator is not None and self.estimator.uses_greedy

    @property
    def compares(self) -> str | None:
        """The value of the setting that compares responses to the same prompt, if any."""
        if self.estimator is None:
            return self.objective
        return self.advantages if self.estimator.compares else None

    def without_effect(self) -> dict[Any, str]:
        """Return the keys without effect."""
        idle: dict[Any, str] = dict(super().without_effect())
        if not self.overlong_buffer:
            idle["overlong_penalty"] = "with overlong_buffer=0"
        if not self.held_out_prompts:
            idle["evaluate_every"] = "with held_out_prompts=0"
        if self.estimator is None:
            return idle | self._without_advantages()
        return idle | self._of_values(self.estimator) | self._of_losses(self.estimator)

    def _without_advantages(self) -> dict[Any, str]:
        """Return the keys that have an effect only with the objective ``policy_gradient``."""
        idle: dict[Any, str] = dict.fromkeys(ADVANTAGE_KEYS, f"with objective={self.objective}")
        idle |= {("kl", key): f"with objective={self.objective}" for key in ("placement", "estimator")}
        if self.objective == "best_of_n":
            of_kl = {("kl", key) for key in ("coefficient", "target", "horizon")}
            idle |= dict.fromkeys({"scale_rewards", *of_kl}, f"with objective={self.objective}")
        if self.weights == "shared":
            idle["weights"] = f"with objective={self.objective}, which has no value function"
        return idle

    def _of_values(self, estimator: AdvantageEntry) -> dict[Any, str]:
        if not estimator.uses_values:
            why = f"with advantages={self.advantages}, which has no value function"
            return dict.fromkeys(VALUE_KEYS, why) | ({"weights": why} if self.weights == "shared" else {})
        idle: dict[Any, str] = {}
        if self.weights != "separate":
            idle["value_model"] = f"with weights={self.weights}; it needs weights=separate"
        if self.weights == "shared":
            idle["value_learning_rate"] = "with weights=shared; it needs weights=separate or adapters"
        return idle

    def _of_losses(self, estimator: AdvantageEntry) -> dict[Any, str]:
        idle: dict[Any, str] = {}
        if not estimator.discounts:
            idle["gamma"] = f"with advantages={self.advantages}, which does not discount"
        if ":" not in self.policy_loss:
            idle["policy_loss_settings"] = BUILT_IN_LOSS.format(f"policy_loss={self.policy_loss}")
        if not policy_loss(self.policy_loss).clips:
            idle |= dict.fromkeys(CLIP_KEYS, f"with policy_loss={self.policy_loss}")
        if self.epochs * self.minibatches == 1:
            why = "with epochs=1 and minibatches=1, because the policy is still the one that sampled"
            idle |= dict.fromkeys((*CLIP_KEYS, "value_clip"), why)
        return idle

    def impossible(self) -> dict[Place, str]:
        """Return the combinations that cannot be trained."""
        return self._impossible_policies() | self._impossible_numbers() | repeated_names(self.rewards)

    def _impossible_policies(self) -> dict[Place, str]:
        problems: dict[Place, str] = {}
        if self.generation.temperature == 0:
            problems["generation", "temperature"] = "training needs sampled responses: set a temperature above 0"
        if self.model.drops_out:
            problems["model",] = (
                "with dropout, the policy in training differs from the policy that sampled: set model.dropout=0 and "
                "model.lora.dropout=0"
            )
        if self.importance_correction is not None and self.importance_mask is not None:
            problems["importance_mask",] = "importance_correction is set as well: remove one of them"
        limits = self.importance_mask
        if limits is not None and not (len(limits) == 2 and limits[0] <= 1 <= limits[1]):
            problems["importance_mask",] = "give two numbers around 1, such as [0.5, 5]"
        cut = self.generation.top_k or self.generation.top_p < 1
        if cut and self.estimator is not None and not self.corrects_importance:
            problems["importance_correction",] = (
                "top_k and top_p truncate the distribution that responses are sampled from, but not the one that is "
                "trained: set importance_correction=2, or top_k=0 and top_p=1"
            )
        standardized = self.estimator is not None and self.advantages == "grpo"
        if standardized and self.kl.placement == "reward" and self.kl.estimator != "k1":
            problems["kl", "estimator"] = (
                "grpo divides by the standard deviation of a group's scores, even a tiny one, so a KL in the reward "
                "must be k1: set kl.estimator=k1, or kl.placement=loss as in its paper, or advantages=dr_grpo"
            )
        return problems

    def _impossible_numbers(self) -> dict[Place, str]:
        problems: dict[Place, str] = {}
        if self.responses_per_prompt < 2 and (self.compares or self.dynamic_sampling):
            problems["responses_per_prompt",] = (
                f"{self.compares or 'dynamic_sampling'} compares responses to the same prompt: set it to at least 2"
            )
        if (number := self.prompts_per_iteration * self.responses_per_prompt) > MOST_RESPONSES:
            key = "prompts_per_iteration" if self.responses_per_prompt == 1 else "responses_per_prompt"
            problems[key,] = f"{number:,} responses per iteration are too many: the limit is {MOST_RESPONSES:,}"
        if self.overlong_buffer > self.generation.max_new_tokens:
            problems["overlong_buffer",] = "larger than generation.max_new_tokens: lower it"
        if self.prompts_per_iteration < self.minibatches:
            problems["minibatches",] = (
                f"{self.minibatches} is larger than prompts_per_iteration, but each needs a prompt: set it to at most "
                f"{self.prompts_per_iteration}"
            )
        if self.objective == "online_dpo" and self.kl.coefficient == 0:
            problems["kl", "coefficient"] = "this is the beta of online DPO: set it above 0"
        return problems


CLIP_KEYS = ("clip", "clip_high", "dual_clip")
VALUE_KEYS = ("gae_lambda", "value_model", "value_learning_rate", "value_clip", "value_coefficient")
ADVANTAGE_KEYS = (
    *CLIP_KEYS,
    *VALUE_KEYS,
    "advantages",
    "policy_loss",
    "policy_loss_settings",
    "aggregation",
    "gamma",
    "importance_correction",
    "importance_mask",
    "entropy_coefficient",
    "whiten_advantages",
    "mask_truncated",
)
"""Keys that have an effect only with the objective ``policy_gradient``."""
