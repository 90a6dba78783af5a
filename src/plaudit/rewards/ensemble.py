"""An ensemble of trained reward models as one reward source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from plaudit.algorithms.ensembles import ensemble_scores
from plaudit.config.schema import EnsembleReward
from plaudit.rewards.trained_model import RewardModelSource
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class EnsembleSource:
    """Scores responses with every member, normalized per member, and combines the scores as configured."""

    def __init__(self, config: EnsembleReward, members: Sequence[RewardModelSource]) -> None:
        self.name = config.name
        self.config = config
        self.members = tuple(members)

    @classmethod
    def load(cls, config: EnsembleReward, device: torch.device) -> "EnsembleSource":
        """Load the reward models of ``config.paths``."""
        return cls(
            config,
            [
                RewardModelSource.of_model(
                    f"{config.name} member {number}", config.model_at(path), config.batch_size, device
                )
                for number, path in enumerate(config.paths, start=1)
            ],
        )

    @property
    def modules(self) -> list["nn.Module"]:
        """The members' models."""
        return [module for member in self.members for module in member.modules]

    @property
    def context_length(self) -> int:
        """The longest prompt with its response that every member reads, in tokens."""
        return min(member.context_length for member in self.members)

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless every member has this tokenizer's vocabulary."""
        for member in self.members:
            member.check_tokenizer(tokenizer)

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the combined scores, [samples]."""
        each = torch.stack([member.score(samples) for member in self.members])
        return ensemble_scores(each, self.config.combination, self.config.penalty)
