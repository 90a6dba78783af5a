"""Compares what a saved folder computes with what the model in memory computes, on a few random tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.errors import PlauditError
from plaudit.models.context import context_length
from plaudit.models.loading.pretrained import load_whole
from plaudit.models.trunk import unwrapped
from plaudit.models.weights.completeness import refuse_incomplete
from plaudit.models.weights.files import ADAPTER_WEIGHTS, weight_files

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ROWS, LENGTH = 2, 16
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
HALF_PRECISION = 0.2  # adapters are merged into rounded weights
"""Largest difference, as a fraction of the largest output."""
SPARE_MEMORY = 1.2  # free memory of a GPU that a second copy of the weights needs, as a multiple of their size


@dataclass(frozen=True)
class Outputs:
    """The outputs [rows, length, vocabulary or 1] at every position of ``tokens`` [rows, length]; on the CPU."""

    tokens: Tensor
    values: Tensor


def outputs_in_memory(model: "PreTrainedModel | PeftModel") -> Outputs:
    """Return a model's logits or scores of random tokens, with its active adapters, without drawing random numbers.

    Other processes take no part; sharded weights must be gathered.
    """
    inner = unwrapped(model)
    generator = torch.Generator().manual_seed(0)
    vocabulary = inner.config.get_text_config().vocab_size
    length = min(LENGTH, context_length(inner))
    tokens = torch.randint(vocabulary, (ROWS, length), generator=generator)
    return Outputs(tokens, _outputs(inner, tokens))


def check_saved_model(model: "PreTrainedModel", folder: Path, expected: Outputs) -> None:
    """Load ``folder``, which ``model`` was saved in. Raises PlauditError if its outputs are not the expected ones."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto_class = AutoModelForSequenceClassification if hasattr(model, "score") else AutoModelForCausalLM
    what = f"the model saved in {folder}"
    with torch.random.fork_rng(devices=[]):
        again, fit = load_whole(what, auto_class, str(folder), dtype=model.dtype)
    refuse_incomplete(what, fit)
    found = _outputs(again.to(_device_for_copy(model)), expected.tokens)
    difference, largest = _largest_difference(found, expected.values), float(expected.values.nan_to_num().abs().max())
    if not difference <= TOLERANCE.get(model.dtype, HALF_PRECISION) * max(largest, 1e-6):
        raise PlauditError(
            f"{folder}: the saved model differs from the trained one: outputs by up to {difference:.3g}, where the "
            f"largest is {largest:.3g}; the checkpoints are kept. Choose other lora.targets if the model has adapters"
        )


def check_saved_adapter(model: Any, folder: Path) -> None:
    """Raise PlauditError if the adapter saved in ``folder`` differs from the model's active adapter."""
    import peft
    from safetensors.torch import load_file

    own = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = {
        name: tensor for file in weight_files(str(folder), ADAPTER_WEIGHTS) for name, tensor in load_file(file).items()
    }
    different = [
        name for name, tensor in own.items() if not torch.equal(tensor.cpu(), stored.get(name, torch.zeros(0)))
    ]
    if different:
        raise PlauditError(f"{folder}: the saved adapter differs from the trained one in {different[0]}")


@torch.no_grad()
def _outputs(model: "PreTrainedModel", tokens: Tensor) -> Tensor:
    """Return logits or scores at every position, on the CPU and at least float32; the mode of the model stays."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    inputs = tokens.to(model.device)
    head: Any = getattr(model, "score", None)
    with torch.random.fork_rng(devices=[]), torch.autocast(model.device.type, enabled=False):
        if head is None:
            values = model(input_ids=inputs, use_cache=False).logits
        else:
            states = model.base_model(input_ids=inputs).last_hidden_state
            values = head(states.to(next(head.parameters()).dtype))
    for part, training in modes.items():
        part.training = training
    result: Tensor = values.float().cpu()
    return result


def _largest_difference(one: Tensor, other: Tensor) -> float:
    """Return the largest absolute difference; numbers that are NaN or infinite in both are equal."""
    if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    return float((one.nan_to_num(0.0, 0.0, 0.0) - other.nan_to_num(0.0, 0.0, 0.0)).abs().max())


def _device_for_copy(model: "PreTrainedModel") -> torch.device:
    """Return the model's device, or the CPU if a second copy would not fit beside it."""
    device: torch.device = model.device
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if free > SPARE_MEMORY * model.get_memory_footprint() else torch.device("cpu")
