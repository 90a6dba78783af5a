"""The schema of a run: every key, its meaning and its default, each in exactly one place.

A recipe is a YAML file with this shape. A section that is present is a stage that runs; the stages run in the order in
which ``Recipe`` lists them. Wherever a model is named, ``stage:sft`` means the model that the stage ``sft`` of the same
run has produced; anything else is a folder or a hub name.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _named_by(key: str) -> Any:
    """Let a plain string stand for a section of which only ``key`` is given."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


# Models ---------------------------------------------------------------------------------------------------------------


class FreshModel(Section):
    """A model with random weights."""

    architecture: str = Field("llama", description="model type, as transformers names it: llama, gpt2, qwen2, …")
    options: dict[str, Any] = Field(
        default_factory=dict, description="fields of that model type's configuration; the vocabulary size is filled in"
    )


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021), by peft."""

    rank: Positive = Field(16, description="rank of the update")
    alpha: float = Field(32.0, description="the update is scaled by alpha / rank")
    dropout: Share = Field(0.0, description="dropout in front of the adapter")
    targets: str | list[str] = Field("all-linear", description="modules that get an adapter")


class ModelConfig(Section):
    """Which model to start from, and how it is held in memory. A plain string means ``path``."""

    path: str | None = Field(None, description="folder, hub name, or stage:NAME for a stage of this run")
    fresh: FreshModel | None = Field(None, description="random weights instead of path")
    tokenizer: str | None = Field(None, description="folder, hub name or stage:NAME; default: the model's own")
    pad_token: str | None = Field(None, description="padding token, for tokenizers that name none")
    eos_token: str | None = Field(None, description="end token, for tokenizers that name none")
    chat_template: str | None = Field(None, description="Jinja chat template, instead of the tokenizer's own")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type in which weights are held")
    dropout: Share = Field(0.0, description="every dropout rate of the model")
    layout: Literal["auto", "packed", "padded"] = Field(
        "auto", description="auto packs where a trial shows it is exact"
    )
    lora: LoraConfig | None = Field(None, description="train low-rank adapters instead of all weights")
    quantization: Literal["4bit", "8bit"] | None = Field(None, description="hold the frozen weights in 4 or 8 bits")

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelConfig":
        if (self.path is None) == (self.fresh is None):
            raise ValueError("give either path or fresh")
        if self.fresh and not self.tokenizer:
            raise ValueError("a fresh model needs a tokenizer: give a folder, a hub name or stage:NAME")
        return self


ModelReference = Annotated[ModelConfig, _named_by("path")]


# Data -----------------------------------------------------------------------------------------------------------------


class SourceConfig(Section):
    """One file or hub dataset. A plain string means ``path``."""

    path: str = Field(description="file (jsonl, jsonl.gz, json, csv, parquet), hub dataset name, or stage:NAME/FILE")
    subset: str | None = Field(None, description="configuration name of a hub dataset")
    split: str = Field("train", description="split of a hub dataset")
    format: str = Field("auto", description="name of a row format; auto recognises it by the columns")
    columns: dict[str, str] = Field(default_factory=dict, description="renames: column of the file -> expected column")
    weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="how often its rows are drawn, relative to the other sources; 2 shows every row twice an epoch"
    )
    limit: Positive | None = Field(None, description="use only the first rows")


SourceReference = Annotated[SourceConfig, _named_by("path")]


class DataConfig(Section):
    """Rows to learn from, and the part that is held out."""

    sources: list[SourceReference] = Field(min_length=1, description="files and hub datasets")
    held_out: list[SourceReference] = Field(
        default_factory=list, description="sources for held-out measurements; default: a share of the sources"
    )
    held_out_share: Share = Field(0.1, description="share of the prompts that is held out when held_out is empty")
    max_bad_share: Share = Field(0.01, description="the run stops when more than this share of the rows is bad")
    prompt_template: str = Field("{prompt}", description="text around a plain prompt")
    conversation: Literal["auto", "chat_template", "human_assistant"] = Field(
        "auto", description="how dialogues become text; auto: the tokenizer's chat template if it has one"
    )
    max_prompt_tokens: Positive | None = Field(None, description="longest prompt; default: what the context allows")
    max_response_tokens: Positive | None = Field(None, description="longest response; default: what the context allows")
    overlong: Literal["drop", "truncate", "error"] = Field(
        "drop", description="what happens to rows that are too long; always counted and reported"
    )


# Training -------------------------------------------------------------------------------------------------------------


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule."""

    learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="how it falls after the warm-up")
    final_share: Share = Field(0.1, description="share of the peak that linear and cosine end at")
    warmup_share: Share = Field(0.05, description="share of the steps over which it rises from zero")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay, on matrices only")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="decay of the gradient's running mean")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of its running square")
    epsilon: Annotated[float, Field(gt=0)] = Field(1e-8, description="added to the root of the running square")
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="gradients are clipped to this norm"
    )


class RlOptimizerConfig(OptimizerConfig):
    """AdamW as reinforcement learning uses it."""

    epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="added to the root of the running square; larger than elsewhere, as gradients can be tiny"
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
        dropout = self.model.dropout or (self.model.lora is not None and self.model.lora.dropout)
        if dropout and self.loss not in LOSSES_WITHOUT_REFERENCE:
            raise ValueError(
                "dropout would be taken for a difference between policy and reference: set model.dropout and "
                "model.lora.dropout to 0"
            )
        return self


# Reinforcement learning -----------------------------------------------------------------------------------------------

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


class RewardSourceConfig(Section):
    """Something that scores a response."""

    name: str = Field(description="name in metrics and tables")
    kind: Literal["model", "ensemble", "classifier", "function", "http"] = Field(description="what scores")
    path: str | None = Field(None, description="model, classifier: folder, hub name or stage:NAME")
    paths: list[str] = Field(default_factory=list, description="ensemble: folders of reward models, at least two")
    combination: Literal["mean", "minimum", "penalized"] = Field(
        "mean", description="ensemble: the members' mean, their minimum, or their mean minus penalty times variance"
    )
    penalty: Annotated[float, Field(ge=0)] = Field(1.0, description="ensemble: weight of the variance, if penalized")
    function: str | None = Field(None, description="function: module:name, called with (prompts, responses)")
    url: str | None = Field(None, description="http: endpoint that takes {prompts, responses} and answers {scores}")
    timeout: Annotated[float, Field(gt=0)] = Field(30.0, description="http: seconds to wait for an answer")
    label: str | None = Field(None, description="classifier: the label whose output is the score")
    output: Literal["probability", "logit"] = Field("logit", description="classifier: which output is the score")
    scored_text: Literal["both", "response"] = Field("both", description="classifier: prompt and response, or response")
    weight: float = Field(
        1.0, description="factor in the composed reward; negative for penalties; 0: watched, but never learned from"
    )
    batch_size: Positive = Field(64, description="responses scored at a time")

    @model_validator(mode="after")
    def _what_the_kind_needs(self) -> "RewardSourceConfig":
        if self.kind == "ensemble":
            if len(self.paths) < 2:
                raise ValueError("a reward source of kind ensemble needs paths of at least two reward models")
            return self
        needed = {"model": "path", "classifier": "path", "function": "function", "http": "url"}[self.kind]
        if getattr(self, needed) is None:
            raise ValueError(f"a reward source of kind {self.kind} needs {needed}")
        return self


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


class RlConfig(StageConfig):
    """Reinforcement learning from a reward: PPO (Schulman et al. 2017; Ziegler et al. 2019) and its relatives."""

    model: ModelReference = Field(description="policy to start from; it is also the reference")
    optimizer: RlOptimizerConfig = Field(default_factory=RlOptimizerConfig, description="see optimizer")
    prompts: DataConfig = Field(description="prompts to answer")
    rewards: list[RewardSourceConfig] = Field(
        min_length=1, description="reward sources; their weighted sum is the reward"
    )
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
    gamma: Share = Field(1.0, description="discount")
    gae_lambda: Share = Field(0.95, description="GAE: bias against variance")
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
        None, description="peak learning rate of a separate value model; default: the policy's"
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
        if self.model.dropout or (self.model.lora and self.model.lora.dropout):
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


# Evaluation and report ------------------------------------------------------------------------------------------------


class ToxicityConfig(Section):
    """A toxicity meter: a classifier's probability of the toxic labels, for prompts and responses."""

    classifier: str = Field(description="folder or hub name of a sequence classifier")
    labels: list[str] = Field(min_length=1, description="labels that count as toxic; their probabilities are added")
    activation: Literal["sigmoid", "softmax"] = Field(description="how the classifier's logits become probabilities")
    prompts: DataConfig | None = Field(None, description="prompts of its own; default: those of the evaluation")


class EvaluateConfig(Section):
    """Measurements of any set of models on the same held-out prompts."""

    models: dict[str, ModelReference] = Field(min_length=1, description="name -> folder, hub name or stage:NAME")
    baseline: str = Field(description="the model that win rates are counted against")
    reference: str | None = Field(None, description="the model that KL and perplexity refer to; default: the baseline")
    prompts: DataConfig = Field(description="held-out prompts are used")
    rewards: list[RewardSourceConfig] = Field(min_length=1, description="reward sources that score the responses")
    max_prompts: Positive = Field(256, description="at most so many prompts")
    generation: GenerationConfig = Field(default_factory=GenerationConfig, description="see generation")
    best_of: list[Positive] = Field(default_factory=list, description="N of best-of-N; empty: none")
    best_of_model: str | None = Field(None, description="model that best-of-N samples from; default: the baseline")
    best_of_reward: str | None = Field(None, description="reward source that chooses; default: the first")
    samples: int = Field(8, ge=0, description="prompts whose responses are shown side by side")
    toxicity: ToxicityConfig | None = Field(None, description="see toxicity")


class ReportConfig(Section):
    """The HTML page about a run."""

    title: str | None = Field(None, description="headline; default: the run's name")
    note: str | None = Field(None, description="a sentence under the headline")


class WorldConfig(Section):
    """The embedded task's data, made by code."""

    pretraining_texts: Positive = Field(6000, description="texts to pre-train on")
    demonstrations: Positive = Field(2000, description="demonstrations of mixed quality")
    comparisons: Positive = Field(3000, description="prompts with replies compared by simulated annotators")
    prompts: Positive = Field(2000, description="prompts for reinforcement learning")
    test_prompts: Positive = Field(300, description="prompts for the final evaluation alone")


# The whole run --------------------------------------------------------------------------------------------------------


class Recipe(Section):
    """A run: what every stage shares, and the stages."""

    name: str = Field(description="name of the run; its folder is OUTPUT/NAME")
    description: str = Field("", description="one line for `plaudit recipes`")
    output: str = Field("runs", description="folder that holds the runs")
    seed: int = Field(0, description="all randomness derives from it")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where tensors live")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="type in which matrix products are computed")
    processes: Positive = Field(1, description="processes that must take part; started by torchrun or accelerate")
    distributed: Literal["none", "ddp", "zero2"] = Field(
        "none",
        description="how several processes share the work: ddp, all weights, gradients and optimizer state in each; "
        "zero2, gradients and optimizer state in shares (DeepSpeed)",
    )
    threads: Positive | None = Field(None, description="CPU threads per process; default: torch's choice")
    trackers: list[str] = Field(
        default_factory=list, description="tensorboard, wandb, or another that Accelerate knows"
    )

    world: WorldConfig | None = Field(None, description="make the embedded task's data")
    pretrain: SftConfig | None = Field(None, description="language modelling on plain text")
    sft: SftConfig | None = Field(None, description="supervised fine-tuning")
    reward: RewardConfig | None = Field(None, description="reward model")
    dpo: DpoConfig | None = Field(None, description="direct preference optimisation")
    rl: RlConfig | None = Field(None, description="reinforcement learning")
    evaluate: EvaluateConfig | None = Field(None, description="measurements")
    report: ReportConfig | None = Field(None, description="HTML page")


STAGES = ("world", "pretrain", "sft", "reward", "dpo", "rl", "evaluate", "report")
