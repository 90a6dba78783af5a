"""A reward model as an adapter on the policy's frozen base, so that only the adapter and the head need memory."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.adapters.folder import base_name
from plaudit.models.heads.scalar import ScoreModule
from plaudit.models.loading.pretrained import or_explain
from plaudit.models.loading.tokenizer import load_tokenizer
from plaudit.models.reward_model import RewardModel, read_scale
from plaudit.training.rl.roles.adapters import AdapterRoles

HEAD = "base_model.model.score.weight"


class AdapterReward(RewardModel):
    """The reward model saved in ``path``, computed on the roles' base; its scores equal those of the merged model."""

    def __init__(self, path: str, roles: AdapterRoles, adapter: str = "reward") -> None:
        head_weight = _load_adapter(Path(path) / "adapter", roles, adapter)
        head = nn.Linear(head_weight.shape[1], 1, bias=False)
        head.weight = nn.Parameter(head_weight.float(), requires_grad=False)
        self.loaded, self.scale = roles.loaded, read_scale(path)
        self.module = _AdapterScorer(roles, adapter, head.to(roles.loaded.device))
        self._tokenizer = load_tokenizer(ModelConfig(path=path))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that the reward model was trained with."""
        return self._tokenizer


class _AdapterScorer(ScoreModule):
    """Computes scores at the last token with the reward's adapter active."""

    def __init__(self, roles: AdapterRoles, adapter: str, head: nn.Linear) -> None:
        super().__init__(roles.model)
        self.base, self.roles, self.adapter, self.head = roles.base, roles, adapter, head

    def forward(self, batch: Batch) -> Tensor:
        """Return the score of every response, [R]."""
        with self.roles.using(self.adapter):
            states = self.base.states(batch, batch.last_token_index)
        scores: Tensor = self.head(states.to(self.head.weight.dtype))
        return scores.squeeze(-1).float()


def is_adapter_on(path: str, base: ModelConfig) -> bool:
    """Whether ``path`` holds an adapter that was trained on exactly the weights that ``base`` names.

    Adapters of quantized bases cannot be shared, because the merged model rounds differently from its quantized base.
    """
    file = Path(path) / "adapter" / "adapter_config.json"
    if base.path is None or base.quantization is not None or not file.exists():
        return False
    continued = base.lora is not None and base.lora.continues
    own = base_name(Path(base.path)) if continued else base.path
    return Path(own).resolve() == Path(base_name(file.parent)).resolve()


def _load_adapter(folder: Path, roles: AdapterRoles, adapter: str) -> Tensor:
    """Put the adapter on the roles' base, frozen, and return its head's weight [1, hidden]."""
    import peft
    from safetensors.torch import load_file

    config = or_explain(f"adapter {folder}", peft.PeftConfig.from_pretrained, folder)
    config.task_type, config.modules_to_save = "CAUSAL_LM", None
    tensors = or_explain(f"adapter {folder}", load_file, folder / "adapter_model.safetensors")
    low_rank = {name: tensor for name, tensor in tensors.items() if "lora_" in name}
    if not roles.add_frozen(adapter, config, low_rank) or HEAD not in tensors:
        raise PlauditError(
            f"{folder}: its {len(low_rank)} weights do not fit the policy's base; train the reward model from the "
            "policy's model, or use rl.weights=separate"
        )
    return tensors[HEAD]
