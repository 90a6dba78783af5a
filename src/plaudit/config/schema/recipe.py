"""The section of the whole recipe."""

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, field_validator

from plaudit.config.schema.base import MAY_CHANGE, Place, Positive, Section, largest
from plaudit.config.schema.distribution import NoDistributionConfig, StrategyReference
from plaudit.config.schema.evaluation import EvaluateConfig, ReportConfig
from plaudit.config.schema.reinforcement import RlConfig
from plaudit.config.schema.training import DpoConfig, RewardConfig, SftConfig
from plaudit.registries.stages import STAGES

if TYPE_CHECKING:
    from plaudit.stages.base import Stage


LONGEST_NAME = 100
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")


class WorldConfig(Section):
    """Sizes of the generated data of the embedded task."""

    pretraining_texts: Positive = Field(6000, description="texts to pre-train on")
    demonstrations: Positive = Field(2000, description="demonstrations of mixed quality")
    comparisons: Positive = Field(3000, description="prompts with replies compared by simulated annotators")
    prompts: Positive = Field(2000, description="prompts for reinforcement learning")
    test_prompts: Positive = Field(300, description="prompts for the final evaluation only")


class Recipe(Section):
    """A run: settings for all stages, and a section for each stage."""

    name: str = Field(description="name of the run, of letters, digits, -, _ and .; its folder is OUTPUT/NAME")
    description: str = Field("", description="one line for `plaudit recipes`", json_schema_extra=MAY_CHANGE)
    output: str = Field("runs", description="folder that holds the runs", json_schema_extra=MAY_CHANGE)
    seed: int = Field(0, description="all random numbers derive from it", json_schema_extra=largest(2**63 - 1))
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="device for models and tensors")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="number type of matrix products")
    processes: Positive = Field(
        1,
        description="number of processes; start that many with torchrun or accelerate",
        json_schema_extra=MAY_CHANGE,
    )
    distributed: StrategyReference = Field(
        default_factory=NoDistributionConfig,
        description="how processes train one model together: the name of a strategy, or a section with settings",
    )
    threads: Positive | None = Field(
        None, description="CPU threads per process; default: torch's choice", json_schema_extra=MAY_CHANGE
    )
    trackers: list[str] = Field(
        default_factory=list,
        description="tensorboard, wandb, or another that Accelerate knows",
        json_schema_extra=MAY_CHANGE,
    )

    plugins: list[str] = Field(
        default_factory=list,
        description="Python modules to import before the recipe is checked; they add stages, reward kinds, losses and "
        "so on",
    )

    world: WorldConfig | None = Field(None, description="generate the data of the embedded task")
    pretrain: SftConfig | None = Field(None, description="language modeling on plain text")
    sft: SftConfig | None = Field(None, description="supervised fine-tuning")
    reward: RewardConfig | None = Field(None, description="reward model")
    dpo: DpoConfig | None = Field(None, description="direct preference optimization")
    rl: RlConfig | None = Field(None, description="reinforcement learning")
    evaluate: EvaluateConfig | None = Field(None, description="measurements")
    report: ReportConfig | None = Field(None, description="HTML page")

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name[:60]!r} cannot be the name of a run: use at most {LONGEST_NAME} of the letters a-z and A-Z, "
                "digits, '-', '_' and '.', and begin with a letter or digit"
            )
        return name

    def impossible(self) -> Mapping[Place, str]:
        """Return the settings of the strategy that do not fit the number of processes."""
        return {("distributed", key): why for key, why in self.distributed.unsuitable(self.processes).items()}

    def sections(self) -> dict[str, Section]:
        """Return the sections of this recipe's stages, in the order in which they run."""
        return {name: section for name in STAGES if (section := getattr(self, name, None)) is not None}


def recipe_type() -> type[Recipe]:
    """Return ``Recipe`` with a section for each registered stage, including those of plugins."""
    return _with_sections(tuple(STAGES[name] for name in STAGES if name not in Recipe.model_fields))


@cache
def _with_sections(stages: "tuple[Stage[Any], ...]") -> type[Recipe]:
    if not stages:
        return Recipe
    fields: dict[str, Any] = {
        stage.name: (stage.section() | None, Field(None, description=stage.title)) for stage in stages
    }
    return create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **fields)
