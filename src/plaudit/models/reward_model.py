"""A trained reward model: a sequence classifier with one label, and the scale of its scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.heads.scalar import ScoreModule
from plaudit.models.inference import per_response
from plaudit.models.loading.models import LoadedModel, load_scorer
from plaudit.models.saving import save_model

SCALE_FILE = "score_scale.json"


@dataclass(frozen=True)
class ScoreScale:
    """``score = gain * raw + bias``, chosen so that reference responses have mean 0 and variance 1."""

    gain: float = 1.0
    bias: float = 0.0

    @classmethod
    def normalizing(cls, raw: Tensor) -> "ScoreScale":
        """Return the scale on which ``raw`` [responses] has mean 0 and variance 1 (Ziegler et al. 2019, 2.2)."""
        raw = raw.double()
        deviation = raw.std(unbiased=False).item()
        gain = 1.0 / deviation if deviation > 0 else 1.0
        return cls(gain, -gain * raw.mean().item())


class RewardModel:
    """Scores responses; ``gain`` and ``bias`` are applied to the network's output."""

    def __init__(self, loaded: LoadedModel, scale: ScoreScale) -> None:
        self.loaded = loaded
        self.scale = scale
        self.module = ScoreModule(loaded.model).eval()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    def raw_scores(self, trees: Sequence[PromptTree], token_budget: int) -> Tensor:
        """Return the scores before gain and bias, [responses], float32 on the CPU."""
        return per_response(self.module, trees, self.loaded, token_budget)

    def scores(self, trees: Sequence[PromptTree], token_budget: int) -> Tensor:
        """Return the score of every response in the order of the trees, [responses], float32 on the CPU."""
        return self.scale.gain * self.raw_scores(trees, token_budget) + self.scale.bias


def load_reward_model(model: ModelConfig, device: torch.device) -> RewardModel:
    """Load a reward model: a folder that Plaudit saved, or any one-label classifier on a causal decoder (no scale).

    Raises PlauditError for a plain language model, whose head would be random.
    """
    loaded, has_head = load_scorer(model, device)
    refuse_untrained_head(model.path, has_head)
    return RewardModel(loaded, read_scale(str(model.path)))


def refuse_untrained_head(path: str | None, has_head: bool) -> None:
    """Raise PlauditError if a reward model has no trained head; ``has_head`` comes from ``load_scorer``."""
    if not has_head:
        raise PlauditError(
            f"{path}: this language model has no trained reward head, so its scores would be random; train a reward "
            "model with `plaudit reward` and give its folder"
        )


def read_scale(path: str) -> ScoreScale:
    """Return the scale saved with a reward model; gain 1 and bias 0 for classifiers without one."""
    file = Path(path) / SCALE_FILE
    return ScoreScale(**json.loads(file.read_text())) if file.exists() else ScoreScale()


def save_reward_model(model: Any, tokenizer: Any, scale: ScoreScale, folder: Path) -> None:
    """Write a folder that ``AutoModelForSequenceClassification`` loads, with gain and bias in a separate file."""
    save_model(model, tokenizer, folder)
    (folder / SCALE_FILE).write_text(json.dumps(vars(scale)) + "\n")
