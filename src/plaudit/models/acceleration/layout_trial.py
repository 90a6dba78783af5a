"""What a model can take is decided by trying: a small random forest goes through it, one way and the other."""

from typing import Any

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, Layout, packed_batch, padded_batch
from plaudit.batching.trees import PromptTree
from plaudit.errors import one_line
from plaudit.memory import is_out_of_memory
from plaudit.models.acceleration.last_mlp import POSITION_WISE, last_mlp
from plaudit.models.acceleration.tree_attention import mark, use_tree_attention
from plaudit.models.trunk import hidden_states, trunk_of
from plaudit.seeding import python_generator

TRIAL_WINDOW = 4  # shorter than the trial's trees, so that a sliding window that packing would ignore shows itself


def choose_layout(model: Any, wanted: str) -> tuple[Layout, str]:
    """Return the layout for a model and the reason, in words.

    ``wanted`` is auto, packed or padded. Packing is exact when the hidden states of packed trees equal those of the
    padded ones, to rounding of the model's type: a caller's autocast does not count.
    """
    if wanted == "padded":
        return "padded", "asked for"
    reason = _packing_fault(model)
    if reason is None:
        _try_tree_attention(model)
        return "packed", "packed and padded hidden states agree in a trial"
    if wanted == "packed":
        reason += "; packing was asked for, and is refused"
    return "padded", reason


def _try_tree_attention(model: Any) -> None:
    """Let the model attend tree by tree, if its architecture allows it and the trial agrees again."""
    before = model.config._attn_implementation
    try:
        use_tree_attention(model)
    except ValueError:
        return
    if _packing_fault(model) is not None:
        model.set_attn_implementation(before)


def _packing_fault(model: Any) -> str | None:
    trees = _trial_trees(int(model.config.vocab_size))
    device = next(model.parameters()).device
    training, window = model.training, getattr(model.config, "sliding_window", None)
    model.eval()
    if window:
        model.config.sliding_window = TRIAL_WINDOW
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            padded = _response_states(model, padded_batch(trees, range(len(trees))).to(device))
            forest = packed_batch(trees, [range(len(trees))]).to(device)
            mark(forest, always=True)
            packed = _response_states(model, forest)
    except Exception as fault:  # whatever a model raises at a tree's mask, it cannot be packed
        if is_out_of_memory(fault):
            raise
        return f"the model rejects a tree attention mask: {one_line(fault)}"
    finally:
        model.train(training)
        if window:
            model.config.sliding_window = window
    difference = _difference(packed, padded)
    if not difference <= _tolerance(model):  # not a number, too
        return f"packed and padded hidden states differ by {difference:.1e} in a trial"
    return None


def try_few_positions(model: Any) -> bool:
    """Let the last MLP compute only the positions that are read, if a trial finds the same states; return whether."""
    mlp = last_mlp(trunk_of(model))
    if mlp is None:
        return False
    trees, device = _trial_trees(int(model.config.vocab_size)), next(model.parameters()).device
    batch = padded_batch(trees, range(len(trees))).to(device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            whole = hidden_states(model, batch, batch.last_token_index).float()
            setattr(mlp, POSITION_WISE, True)
            few = hidden_states(model, batch, batch.last_token_index).float()
            agree = _difference(few, whole) <= _tolerance(model)
    except Exception as fault:  # an MLP that takes or returns something else than one tensor
        if is_out_of_memory(fault):
            raise
        agree = False
    finally:
        model.train(training)
    setattr(mlp, POSITION_WISE, agree)
    return agree


def _difference(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).pow(2).mean() / expected.pow(2).mean()).sqrt().item()


def _tolerance(model: Any) -> float:
    dtype = next(model.parameters()).dtype
    return 0.05 if dtype.itemsize < torch.float32.itemsize else max(100 * torch.finfo(dtype).eps, 1e-5)


def _response_states(model: Any, batch: Batch) -> Tensor:
    return hidden_states(model, batch, torch.cat([batch.predictor_index, batch.token_index])).float()


def _trial_trees(vocabulary: int) -> list[PromptTree]:
    generator = python_generator("layout trial")

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(vocabulary) for _ in range(count))

    return [
        PromptTree(tokens(7), (tokens(5), tokens(8), tokens(3))),
        PromptTree(tokens(4), (tokens(6),)),
        PromptTree(tokens(9), (tokens(2), tokens(7))),
    ]
