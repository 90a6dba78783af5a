"""Writes a reward model's scale into its weights, so that transformers computes the same scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plaudit.models.context import context_length
from plaudit.models.weights.files import check_safetensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD = "score.weight"
UNSCALED_FILE = "unscaled.safetensors"
"""The weights before the scale was written into them; with them, scores are the same bits as in training."""


@dataclass(frozen=True)
class Folded:
    """The weights that hold the scale, the same weights without it, and the part of the bias that they cannot hold."""

    weights: dict[str, Tensor]
    unscaled: dict[str, Tensor]
    bias: float


def folded(model: "PreTrainedModel", gain: float, bias: float) -> Folded:
    """Return the weights of a classifier that computes ``gain * score + bias``.

    The heads of transformers have no bias: one in the file is ignored. If the last layer normalization has one, a shift
    of it along the head's weights ``w`` by ``bias * w / |w|^2`` adds ``bias`` to every score. An RMSNorm has none, and
    no weight of a model with RMSNorm adds a constant to its normalized states: then the bias is returned.
    """
    head: Any = model.score
    weight = (head.modules_to_save["default"] if hasattr(head, "modules_to_save") else head).weight.detach()
    scaled = gain * weight
    norm = _last_norm(model)
    if norm is None or not float(scaled.abs().max()) > 0:
        return Folded({HEAD: scaled}, {HEAD: weight}, bias)
    shift = norm.bias.detach()
    name = next(name for name, parameter in model.named_parameters() if parameter is norm.bias)
    shifted = shifted_norm(shift, scaled, bias)
    return Folded({HEAD: scaled, name: shifted}, {HEAD: weight, name: shift}, 0.0)


def shifted_norm(norm_bias: Tensor, head: Tensor, bias: float) -> Tensor:
    """Return the normalization's bias [d] that adds ``bias`` to every score of a head [1, d]."""
    direction = head[0].double()
    return (norm_bias.double() + bias * direction / direction.square().sum()).to(norm_bias.dtype)


def restore_unscaled(model: "PreTrainedModel", folder: str, gain: float, bias: float) -> bool:
    """Put the weights without the scale back into a loaded model; return whether this was done.

    They are used only if the saved weights are exactly these weights with the scale.
    """
    from safetensors.torch import load_file

    file = Path(folder) / UNSCALED_FILE
    if not file.is_file():
        return False
    parameters = dict(model.named_parameters())
    check_safetensors(file)
    unscaled = {name: tensor.to(model.device, model.dtype) for name, tensor in load_file(file).items()}
    if HEAD not in unscaled or not unscaled.keys() <= parameters.keys():
        return False
    expected = {name: gain * t if name == HEAD else t for name, t in unscaled.items()}
    for name in expected.keys() - {HEAD}:
        expected[name] = shifted_norm(expected[name], expected[HEAD], bias)
    if not all(torch.equal(expected[name], parameters[name]) for name in expected):
        return False
    with torch.no_grad():
        for name, tensor in unscaled.items():
            parameters[name].copy_(tensor)
    return True


@torch.no_grad()
def _last_norm(model: "PreTrainedModel") -> nn.LayerNorm | None:
    """Return the layer normalization whose output is the model's last hidden state; None if there is none with bias."""
    norms = [part for part in model.modules() if isinstance(part, nn.LayerNorm) and part.bias is not None]
    if not norms:
        return None
    outputs: dict[nn.LayerNorm, Tensor] = {}
    hooks = [norm.register_forward_hook(lambda norm, _, output: outputs.update({norm: output})) for norm in norms]
    length = min(4, context_length(model))
    states = model.base_model(input_ids=torch.arange(length, device=model.device)[None]).last_hidden_state
    for hook in hooks:
        hook.remove()
    return next((norm for norm, output in outputs.items() if torch.equal(output, states)), None)
