"""A trained reward model as a reward source; it reads the policy's token ids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from plaudit.config.schema import ModelConfig, ModelReward
from plaudit.errors import PlauditError
from plaudit.memory import responses_at_once
from plaudit.rewards.grouping import padded_positions, samples_to_trees
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from plaudit.models.reward_model import RewardModel


class RewardModelSource:
    """Scores responses with a reward model, at the last token and normalized."""

    def __init__(self, name: str, model: "RewardModel", batch_size: int) -> None:
        self.name = name
        self.model = model
        remedy = "use a smaller reward model, or shorter responses"
        self.batch_size = responses_at_once(batch_size, f"reward source {name!r}", remedy)

    @classmethod
    def load(cls, config: ModelReward, device: torch.device) -> "RewardModelSource":
        """Load the reward model of ``config.path``."""
        return cls.of_model(config.name, config.model_at(config.path), config.batch_size, device)

    @classmethod
    def of_model(cls, name: str, model: ModelConfig, batch_size: int, device: torch.device) -> "RewardModelSource":
        """Load the reward model that ``model`` names."""
        from plaudit.models.reward_model import load_reward_model

        return cls(name, load_reward_model(model, device), batch_size)

    @property
    def modules(self) -> list["nn.Module"]:
        """The model that scores."""
        return [self.model.module]

    @property
    def context_length(self) -> int:
        """The longest prompt with its response that the model reads, in tokens."""
        return self.model.loaded.context_length

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless ``tokenizer`` has this model's vocabulary."""
        if not same_vocabulary(tokenizer, self.model.tokenizer):
            raise PlauditError(
                f"mismatched tokenizers: reward source {self.name!r} ({len(self.model.tokenizer)} tokens) and the "
                f"policy ({len(tokenizer)} tokens) do not share a vocabulary; train it from the policy's model"
            )

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the normalized scores [samples]; samples with the same tokens are scored once, so scores are equal."""
        longest = padded_positions(samples, 1)
        if longest > self.context_length:
            raise PlauditError(
                f"reward source {self.name!r}: a prompt with its response has {longest} tokens, but the reward model "
                f"accepts {self.context_length}; shorten max_prompt_tokens or generation.max_new_tokens"
            )
        keys = [(sample.prompt_ids, sample.response_ids) for sample in samples]
        different = list(dict(zip(keys, samples, strict=True)).values())
        scores = self.batch_size.run(
            lambda rows: self.model.scores(samples_to_trees(different, rows), padded_positions(different, rows)),
            most=max(len(different), 1),
        )
        number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return scores[[number[key] for key in keys]]


def same_vocabulary(one: "PreTrainedTokenizerBase", other: "PreTrainedTokenizerBase") -> bool:
    """Return whether both tokenizers give the same ids to the same tokens, apart from a reward model's own padding."""
    return one is other or _vocabulary(one) == _vocabulary(other)


def _vocabulary(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    from plaudit.models.reward_model import PAD_TOKEN

    return {token: number for token, number in tokenizer.get_vocab().items() if token != PAD_TOKEN}
