"""Computes logits from hidden states as the model does: some models change logits after the last matrix product."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRIAL_LOGIT = 50.0
"""Largest logit of the trial: above every soft cap in use."""


@dataclass(frozen=True)
class OutputHead:
    """``logits = cap * tanh(linear(hidden) * multiplier / divisor / cap)``; without a cap no tanh.

    In transformers, these are the model's ``logit_scale`` (Cohere; MPT has it only in its configuration and does not
    use it), the configuration's ``logits_scaling`` (Granite) and its ``final_logit_softcapping`` (Gemma 2; the formula
    is from Bello et al. 2017).
    """

    linear: Any
    multiplier: float = 1.0
    divisor: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "OutputHead":
        """Return the head that a transformers model and its configuration describe."""
        config = model.config.get_text_config()
        return cls(
            model.get_output_embeddings(),
            getattr(model, "logit_scale", None) or 1.0,
            getattr(config, "logits_scaling", None) or 1.0,
            getattr(config, "final_logit_softcapping", None),
        )

    @property
    def vocabulary(self) -> int:
        """The number of logits."""
        return int(self.linear.weight.shape[0])

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits [N, vocabulary] of hidden states [N, hidden size], in the model's own type."""
        logits: Tensor = self.linear(hidden)
        if self.multiplier != 1.0:
            logits = logits * self.multiplier
        if self.divisor != 1.0:
            logits = logits / self.divisor
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def head_is_known(model: "PreTrainedModel") -> bool:
    """Test whether a model's logits equal those of ``OutputHead.of``.

    The trial scales up the matrix product, because a soft cap hardly changes the small logits of a new model.
    """
    head = OutputHead.of(model)
    tokens = torch.arange(8, device=next(model.parameters()).device)[None] % int(model.config.vocab_size)
    training = model.training
    model.eval()
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        largest = float(head.linear(hidden).abs().max())
        factor = TRIAL_LOGIT / largest if largest else 1.0  # all weights may be 0
        enlarging = head.linear.register_forward_hook(lambda _module, _inputs, logits: logits * factor)
        logits, own = model(input_ids=tokens).logits.float(), head(hidden).float()
        enlarging.remove()
    model.train(training)
    return bool(torch.allclose(own, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max())))
