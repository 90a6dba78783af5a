"""Which layout a model gets is decided by trying: a small random forest goes through both."""

from typing import Any

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, Layout, packed_batch, padded_batch
from plaudit.batching.trees import PromptTree
from plaudit.models.trunk import hidden_states
from plaudit.seeding import python_generator

TRIAL_WINDOW = 4  # shorter than the trial's trees, so that a sliding window that packing would ignore shows itself


def choose_layout(model: Any, wanted: str) -> tuple[Layout, str]:
    """Return the layout for a model and the reason, in words.

    ``wanted`` is auto, packed or padded. Packing is exact when the hidden states of packed trees equal those of the
    padded ones, to rounding of the model's type.
    """
    if wanted == "padded":
        return "padded", "asked for"
    reason = _packing_fault(model)
    if reason is None:
        return "packed", "packed and padded hidden states agree in a trial"
    if wanted == "packed":
        reason += "; packing was asked for, and is refused"
    return "padded", reason


def head_is_plain(model: Any) -> bool:
    """Say whether logits are what the output head makes of the hidden states, nothing being done to them after it."""
    tokens = torch.arange(8, device=next(model.parameters()).device)[None] % int(model.config.vocab_size)
    training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=tokens).logits.float()
        own = model.get_output_embeddings()(model.base_model(input_ids=tokens).last_hidden_state).float()
    model.train(training)
    return bool(torch.allclose(own, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max())))


def _packing_fault(model: Any) -> str | None:
    trees = _trial_trees(int(model.config.vocab_size))
    device = next(model.parameters()).device
    training, window = model.training, getattr(model.config, "sliding_window", None)
    model.eval()
    if window:
        model.config.sliding_window = TRIAL_WINDOW
    try:
        with torch.no_grad():
            padded = _response_states(model, padded_batch(trees, range(len(trees))).to(device))
            packed = _response_states(model, packed_batch(trees, [range(len(trees))]).to(device))
    except Exception as fault:  # whatever a model raises at a tree's mask, it cannot be packed
        return f"the model does not take a tree's attention mask ({type(fault).__name__})"
    finally:
        model.train(training)
        if window:
            model.config.sliding_window = window
    difference = ((packed - padded).pow(2).mean() / padded.pow(2).mean()).sqrt().item()
    tolerance = 100 * torch.finfo(next(model.parameters()).dtype).eps if padded.dtype == torch.float32 else 0.05
    if difference > max(tolerance, 1e-5):
        return f"packed and padded hidden states differ by {difference:.1e} in a trial"
    return None


def _response_states(model: Any, batch: Batch) -> Tensor:
    states = hidden_states(model, batch)
    return torch.cat([states[batch.predictor_index], states[batch.token_index]]).float()


def _trial_trees(vocabulary: int) -> list[PromptTree]:
    generator = python_generator("layout trial")

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(vocabulary) for _ in range(count))

    return [
        PromptTree(tokens(7), (tokens(5), tokens(8), tokens(3))),
        PromptTree(tokens(4), (tokens(6),)),
        PromptTree(tokens(9), (tokens(2), tokens(7))),
    ]
