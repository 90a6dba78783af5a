"""A trained reward model: a sequence classifier with one label, and the scale of its scores."""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.adapters.lora import merged_tensor
from plaudit.models.heads.scalar import ScoreModule
from plaudit.models.inference import per_response
from plaudit.models.loading.models import LoadedModel, load_scorer
from plaudit.models.saved_outputs import Outputs, outputs_in_memory
from plaudit.models.saving import saves_only_adapter, write_model
from plaudit.models.score_folding import UNSCALED_FILE, folded, restore_unscaled
from plaudit.models.trunk import unwrapped
from plaudit.models.weights.files import read_json
from plaudit.permissions import follow_umask

SCALE_FILE = "score_scale.json"
PAD_TOKEN = "<|score_padding|>"
EXAMPLE = """# A reward model

Scores of responses, the same numbers as in Plaudit:

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()


def score(prompt: str, response: str) -> float:
    text = tokenizer(prompt)["input_ids"] + tokenizer(response, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([text + [tokenizer.eos_token_id]])).logits.item(){bias}
```

The prompt is text as it was in training, after the prompt template or chat template. The score is read at the end token
of the response. `score_scale.json` holds the gain and bias that give `responses` of the training responses mean 0 and
variance 1; the weights already contain them, except for what is added above.
"""


@dataclass(frozen=True)
class ScoreScale:
    """``score = gain * raw + bias``, chosen so that ``responses`` reference responses have mean 0 and variance 1."""

    gain: float = 1.0
    bias: float = 0.0
    responses: int = 0

    @classmethod
    def normalizing(cls, raw: Tensor) -> "ScoreScale":
        """Return the scale on which ``raw`` [responses] has mean 0 and variance 1 (Ziegler et al. 2019, 2.2)."""
        raw = raw.double()
        deviation = raw.std(unbiased=False).item()
        gain = 1.0 / deviation if deviation > 0 else 1.0
        return cls(gain, -gain * raw.mean().item(), len(raw))


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
    return RewardModel(loaded, scale_of(loaded, str(model.path)))


def scale_of(loaded: LoadedModel, path: str) -> ScoreScale:
    """Return the scale of a reward model loaded from ``path``, after undoing what its weights hold of the scale."""
    scale, rest = read_scale(path), remaining_bias(path)
    if rest is None or restore_unscaled(unwrapped(loaded.model), path, scale.gain, scale.bias - rest):
        return scale
    return ScoreScale(1.0, rest)


def refuse_untrained_head(path: str | None, has_head: bool) -> None:
    """Raise PlauditError if a reward model has no trained head; ``has_head`` comes from ``load_scorer``."""
    if not has_head:
        raise PlauditError(
            f"{path}: this language model has no trained reward head, so its scores would be random; train a reward "
            "model with `plaudit reward` and give its folder"
        )


def read_scale(path: str) -> ScoreScale:
    """Return the scale of a reward model before it was written into the weights; gain 1 and bias 0 without one."""
    saved = _scale_file(path)
    return ScoreScale(saved.get("gain", 1.0), saved.get("bias", 0.0))


def remaining_bias(path: str) -> float | None:
    """Return what is still to be added to the scores of the saved weights; None if these hold nothing of the scale."""
    rest: float | None = _scale_file(path).get("remaining_bias")
    return rest


def _scale_file(path: str) -> dict[str, Any]:
    file = Path(path) / SCALE_FILE
    if not file.is_file() and (file.parent / UNSCALED_FILE).exists():
        raise PlauditError(f"{file}: missing, so the scale of the scores is unknown; restore it")
    saved = read_json(file) if file.is_file() else {}
    if not all(type(value) in (int, float) and math.isfinite(value) for value in saved.values()):
        raise PlauditError(f"{file}: holds NaN or infinite values; restore it, or train the model again")
    return saved


def save_reward_model(model: Any, tokenizer: Any, scale: ScoreScale, folder: Path) -> None:
    """Write a folder with which ``AutoModelForSequenceClassification`` computes the scaled scores.

    The bias is left to the caller where the weights cannot hold it, and README.md says so. ``score_scale.json`` keeps
    the scale, and ``unscaled.safetensors`` the weights without it. An adapter on a quantized base is saved without the
    scale.
    """
    expected = outputs_in_memory(model)
    if saves_only_adapter(model):
        write_model(model, tokenizer, folder, expected)
        (folder / SCALE_FILE).write_text(json.dumps(vars(scale)) + "\n")
        return
    inner = unwrapped(model)
    parts = folded(inner, scale.gain, scale.bias)
    changes, padded = dict(parts.weights), with_own_padding(tokenizer)
    with enlarged_vocabulary(inner, len(padded), changes):
        values = scale.gain * expected.values + (scale.bias - parts.bias)
        write_model(model, padded, folder, Outputs(expected.tokens, values), changes)
    save_file({name: tensor.clone() for name, tensor in parts.unscaled.items()}, folder / UNSCALED_FILE)
    (folder / SCALE_FILE).write_text(json.dumps({**vars(scale), "remaining_bias": parts.bias}) + "\n")
    (folder / "README.md").write_text(EXAMPLE.format(bias=f" + {parts.bias!r}" if parts.bias else ""), encoding="utf-8")
    follow_umask(folder)


def with_own_padding(tokenizer: Any) -> Any:
    """Return a tokenizer whose padding token cannot be met in text, because transformers reads the score before it."""
    if tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id):
        return tokenizer
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": PAD_TOKEN})
    return padded


@contextmanager
def enlarged_vocabulary(model: Any, size: int, changes: dict[str, Tensor]) -> Iterator[None]:
    """Add rows of zeros for new tokens to the saved embeddings, in ``changes``, and to the vocabulary's saved size."""
    config, embeddings = model.config.get_text_config(), model.get_input_embeddings()
    before = config.vocab_size
    if size > before:
        layer = embeddings.get_base_layer() if hasattr(embeddings, "get_base_layer") else embeddings
        weight = layer.weight
        if layer is not embeddings:
            weight = merged_tensor(embeddings, "weight")
        names = (name for name, parameter in model.named_parameters() if parameter is layer.weight)
        name = next(names).replace(".base_layer.", ".")
        changes[name] = torch.cat([weight.detach(), weight.new_zeros(size - before, weight.shape[1])])
        config.vocab_size = size
    yield
    config.vocab_size = before
