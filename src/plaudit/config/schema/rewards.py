"""Reward sources: a section for each kind, and the registry of kinds."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from plaudit.config.schema.base import (
    MAY_CHANGE,
    NAMES_CLASSIFIER,
    NAMES_FUNCTION,
    NAMES_REWARD_MODEL,
    NAMES_VARIABLE,
    Place,
    Positive,
    Section,
    largest,
)
from plaudit.config.schema.kinds import Kinds
from plaudit.config.schema.models import WeightsConfig
from plaudit.config.schema.names import NameOf
from plaudit.registry import Registry

LONGEST_URL = 2000
Overlong = Literal["truncate", "error"]


class RewardSourceConfig(Section):
    """A source of scores for responses."""

    source: ClassVar[str]
    """``module:class`` of the source; the class has ``load(config, device)``, see ``plaudit.rewards.sources``."""

    name: str = Field(description="name in metrics and tables")
    kind: str = Field(description="kind of reward source")
    weight: float = Field(
        1.0,
        description="factor in the weighted sum; negative for penalties; 0: measured but not used in training",
        json_schema_extra=largest(1e9),
    )
    batch_size: Positive = Field(64, description="responses scored at a time", json_schema_extra=MAY_CHANGE)


class ModelReward(WeightsConfig, RewardSourceConfig):
    """A trained reward model. It reads the policy's token ids, so both need the same tokenizer."""

    source: ClassVar[str] = "plaudit.rewards.trained_model:RewardModelSource"

    kind: Literal["model"] = Field("model", description="a trained reward model")
    path: str = Field(description="folder, hub name or stage:NAME", json_schema_extra=NAMES_REWARD_MODEL)


class EnsembleReward(WeightsConfig, RewardSourceConfig):
    """Several trained reward models, combined into one score."""

    source: ClassVar[str] = "plaudit.rewards.ensemble:EnsembleSource"

    kind: Literal["ensemble"] = Field("ensemble", description="several trained reward models")
    paths: list[str] = Field(
        min_length=2, description="folders of the reward models", json_schema_extra=NAMES_REWARD_MODEL
    )
    combination: Literal["mean", "minimum", "penalized"] = Field(
        "mean",
        description="mean: mean of the members' scores; minimum: their minimum; penalized: their mean minus "
        "penalty times their variance",
    )
    penalty: Annotated[float, Field(ge=0)] = Field(1.0, description="factor of the variance in combination=penalized")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: only ``penalized`` subtracts a variance."""
        return {} if self.combination == "penalized" else {"penalty": f"with combination={self.combination}"}


class ClassifierInput(Section):
    """What a classifier does with a text that is too long for it."""

    overlong: Overlong = Field(
        "truncate",
        description="truncate: of a text that is too long for the classifier, the end is read, and such texts are "
        "counted; error: the stage stops",
    )


class ClassifierReward(ClassifierInput, WeightsConfig, RewardSourceConfig):
    """The output of a sequence classifier for one label. The classifier reads text."""

    source: ClassVar[str] = "plaudit.rewards.classifier:ClassifierSource"

    kind: Literal["classifier"] = Field("classifier", description="any sequence classifier")
    path: str = Field(description="folder, hub name or stage:NAME", json_schema_extra=NAMES_CLASSIFIER)
    label: str | None = Field(None, description="label whose output is the score; default: the only label")
    output: Literal["probability", "logit"] = Field("logit", description="output that is the score")
    scored_text: Literal["both", "response"] = Field(
        "both", description="text to score: prompt and response, or only the response"
    )


class FunctionReward(RewardSourceConfig):
    """A Python function of (prompts, responses)."""

    source: ClassVar[str] = "plaudit.rewards.function:FunctionSource"

    kind: Literal["function"] = Field("function", description="a Python function")
    function: Annotated[str, NameOf((), functions=True)] = Field(
        description="called with (prompts, responses), it returns one number per response",
        json_schema_extra=NAMES_FUNCTION,
    )


class HttpReward(RewardSourceConfig):
    """An HTTP service that receives {"prompts": [...], "responses": [...]} and returns {"scores": [...]}."""

    source: ClassVar[str] = "plaudit.rewards.endpoint:EndpointSource"

    kind: Literal["http"] = Field("http", description="an HTTP service")
    url: str = Field(description="address to which requests are sent by POST")
    timeout: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="seconds until an answer must be complete",
        json_schema_extra={**MAY_CHANGE, **largest(86_400)},
    )
    authorization: str | None = Field(
        None,
        description="name of an environment variable; its value, such as `Bearer ...`, is sent as the Authorization "
        "header",
        json_schema_extra={**MAY_CHANGE, **NAMES_VARIABLE},
    )

    @field_validator("url")
    @classmethod
    def _can_be_requested(cls, url: str) -> str:
        """Raise ValueError for what cannot be the address of a service. The address may hold a secret: do not show it.

        The client refuses what this does not notice.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not url.isascii() or not url.isprintable() or " " in url or len(url) > LONGEST_URL:
            raise ValueError(
                "not an address that can be requested: it must begin with http:// or https://, followed by a host, and "
                f"consist of at most {LONGEST_URL} ASCII characters without spaces"
            )
        return url


REWARD_KINDS: Registry[type[RewardSourceConfig]] = Registry(
    "reward kind",
    {
        "model": ModelReward,
        "ensemble": EnsembleReward,
        "classifier": ClassifierReward,
        "function": FunctionReward,
        "http": HttpReward,
    },
)
"""Every kind of reward source. A plugin registers its kinds here, see ``docs/extending.md``."""


def repeated_names(sources: Sequence[RewardSourceConfig]) -> dict[Place, str]:
    """Return the problem of every source whose name an earlier one has: metrics and tables are labeled by name."""
    names = [source.name for source in sources]
    return {
        ("rewards", number, "name"): f"{name} is the name of an earlier source: choose another one"
        for number, name in enumerate(names)
        if name in names[:number]
    }


RewardReference = Annotated[RewardSourceConfig, Kinds(RewardSourceConfig, "kind", REWARD_KINDS)]
