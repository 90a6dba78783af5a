"""The schema of a run: every key, its meaning and its default, each defined once.

A recipe is a YAML file of this form. Every stage section that is present runs, in the order in which ``Recipe`` lists
the stages. Where a model is named, ``stage:sft`` means the model that the stage ``sft`` of the same run has produced;
anything else is a folder or a hub name.
"""

from plaudit.config.schema.base import Section
from plaudit.config.schema.data import DataConfig, SourceConfig, SourceReference
from plaudit.config.schema.evaluation import EvaluateConfig, ReportConfig, ToxicityConfig
from plaudit.config.schema.generation import GenerationConfig
from plaudit.config.schema.kinds import Kinds
from plaudit.config.schema.models import (
    FreshModel,
    LoraConfig,
    ModelConfig,
    ModelReference,
    TrainedModelConfig,
    WeightsConfig,
)
from plaudit.config.schema.names import NameOf
from plaudit.config.schema.recipe import Recipe, WorldConfig, recipe_type
from plaudit.config.schema.reinforcement import (
    KlConfig,
    RlConfig,
    RlOptimizerConfig,
)
from plaudit.config.schema.rewards import (
    REWARD_KINDS,
    ClassifierReward,
    EnsembleReward,
    FunctionReward,
    HttpReward,
    ModelReward,
    RewardSourceConfig,
)
from plaudit.config.schema.training import (
    DpoConfig,
    LanguageModelStageConfig,
    OptimizerConfig,
    RewardConfig,
    SftConfig,
    StageConfig,
    SupervisedStageConfig,
)

__all__ = [
    "REWARD_KINDS",
    "ClassifierReward",
    "DataConfig",
    "DpoConfig",
    "EnsembleReward",
    "EvaluateConfig",
    "FreshModel",
    "FunctionReward",
    "GenerationConfig",
    "HttpReward",
    "Kinds",
    "KlConfig",
    "LanguageModelStageConfig",
    "LoraConfig",
    "ModelConfig",
    "ModelReference",
    "ModelReward",
    "NameOf",
    "OptimizerConfig",
    "Recipe",
    "ReportConfig",
    "RewardConfig",
    "RewardSourceConfig",
    "RlConfig",
    "RlOptimizerConfig",
    "Section",
    "SftConfig",
    "SourceConfig",
    "SourceReference",
    "StageConfig",
    "SupervisedStageConfig",
    "ToxicityConfig",
    "TrainedModelConfig",
    "WeightsConfig",
    "WorldConfig",
    "recipe_type",
]
