"""Measurements and the report."""

from typing import Literal

from pydantic import Field

from plaudit.config.schema.base import MOST_RESPONSES, Place, Positive, Section
from plaudit.config.schema.data import DataConfig
from plaudit.config.schema.generation import GenerationConfig
from plaudit.config.schema.models import ModelReference, TrainedModelReference
from plaudit.config.schema.rewards import ClassifierInput, RewardReference, repeated_names


class ToxicityConfig(ClassifierInput):
    """Toxicity of prompts and responses: the probability that a classifier gives to toxic labels."""

    classifier: TrainedModelReference = Field(description="a sequence classifier")
    labels: list[str] = Field(min_length=1, description="labels that count as toxic")
    activation: Literal["sigmoid", "softmax"] = Field(
        description="how the classifier's logits become probabilities: sigmoid for labels that do not exclude each "
        "other, softmax for labels of which one is true; the probabilities of several labels are added under softmax"
    )
    combination: Literal["any", "maximum"] = Field(
        "any",
        description="how the probabilities p of several labels are combined under sigmoid; any: 1 - product of "
        "(1 - p), the probability of at least one label if they are independent; maximum: the highest",
    )
    prompts: DataConfig | None = Field(None, description="separate prompts; default: those of the evaluation")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: only several labels under sigmoid are combined in one of two ways."""
        if self.activation == "softmax":
            return {"combination": "with activation=softmax, which adds the probabilities"}
        return {"combination": "with a single label"} if len(self.labels) == 1 else {}

    def impossible(self) -> dict[Place, str]:
        """Return labels that are named twice, which would count twice."""
        return {
            ("labels", number): f"{label} is named twice; remove one"
            for number, label in enumerate(self.labels)
            if label in self.labels[:number]
        }


class EvaluateConfig(Section):
    """Measurements of several models on the same held-out prompts."""

    models: dict[str, ModelReference] = Field(min_length=1, description="name -> folder, hub name or stage:NAME")
    baseline: str = Field(description="model that win rates compare the other models with")
    reference: str | None = Field(
        None, description="model from which KL and perplexity are computed; default: the baseline"
    )
    prompts: DataConfig = Field(description="data whose held-out prompts are used")
    rewards: list[RewardReference] = Field(min_length=1, description="reward sources that score the responses")
    max_prompts: Positive = Field(256, description="maximum number of prompts")
    generation: GenerationConfig = Field(default_factory=GenerationConfig, description="how responses are sampled")
    best_of: list[Positive] = Field(default_factory=list, description="values of N for best-of-N; empty: none")
    best_of_model: str | None = Field(None, description="model that best-of-N samples from; default: the baseline")
    best_of_reward: str | None = Field(None, description="reward source that chooses the best; default: the first")
    samples: int = Field(8, ge=0, description="number of prompts whose responses are shown side by side")
    toxicity: ToxicityConfig | None = Field(None, description="measures toxicity")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect when best-of-N is off."""
        return {} if self.best_of else dict.fromkeys(("best_of_model", "best_of_reward"), "without best_of")

    def impossible(self) -> dict[Place, str]:
        """Return names of models and rewards that are not defined, and best-of-N that would not fit the memory."""
        sources = [source.name for source in self.rewards]
        chosen = {
            "baseline": (self.baseline, list(self.models)),
            "reference": (self.reference, list(self.models)),
            "best_of_model": (self.best_of_model, list(self.models)),
            "best_of_reward": (self.best_of_reward, sources),
        }
        unknown: dict[Place, str] = {
            (key,): f"there is none called {name}; choose one of {', '.join(known)}"
            for key, (name, known) in chosen.items()
            if name is not None and name not in known
        }
        too_many: dict[Place, str] = {
            ("best_of", number): f"{n:,} responses per prompt are too many: the limit is {MOST_RESPONSES:,}"
            for number, n in enumerate(self.best_of)
            if n > MOST_RESPONSES
        }
        return unknown | too_many | repeated_names(self.rewards)


class ReportConfig(Section):
    """The HTML page about a run."""

    title: str | None = Field(None, description="headline; default: the run's name")
    note: str | None = Field(None, description="a sentence under the headline")
