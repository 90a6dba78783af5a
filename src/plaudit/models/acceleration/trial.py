"""Tests what a model supports: runs the same random prompt trees through it with and without an acceleration.

Every function returns None if the model supports the acceleration, and otherwise the reason why not. Out-of-memory
errors are raised, because they do not show what the model supports. Trials compare results in the model's own type,
without the caller's autocast.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.batching.batches import Batch
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree
from plaudit.errors import one_line
from plaudit.memory import is_out_of_memory
from plaudit.models.acceleration.cached_attention import missing_library
from plaudit.models.acceleration.context import ForwardContext, forward_context
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.acceleration.last_mlp import (
    compute_read_positions_only,
    computes_read_positions_only,
    last_mlp,
)
from plaudit.models.acceleration.tree_attention import tree_layout, use_tree_attention
from plaudit.models.trunk import accepted_arguments, trunk_of
from plaudit.plugins import is_built_in, is_from_user_code
from plaudit.seeding import python_generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plaudit.batching.layouts.base import Layout

TRIAL_WINDOW = 4  # shorter than the trial's trees, to detect a sliding window that packed batches would ignore

MODEL_FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""What a model raises that gets a mask, a cache or a tensor that it was not written for."""


def layout_fault(model: "PreTrainedModel", layout: "Layout") -> str | None:
    """A layout: the hidden states of its batches must equal those of padded batches up to rounding."""
    trees, device = _trial_trees(model), model.device
    window = getattr(model.config, "sliding_window", None)
    if window:
        model.config.sliding_window = TRIAL_WINDOW
    try:
        with _trial(model):
            batches = [batch.to(device) for batch in _batches(layout, trees)]
            padded = [_response_states(model, _padded(batch.trees).to(device)) for batch in batches]
            for batch in batches:
                tree_layout(batch, always=True)
            try:
                found = [_response_states(model, batch) for batch in batches]
            except MODEL_FAULTS as fault:
                if not is_built_in(layout) and is_from_user_code(fault):
                    raise
                what = "a tree attention mask" if layout.needs_tree_mask else f"{layout.name} batches"
                return f"the model rejects {what}: {_text(fault)}"
    finally:
        if window:
            model.config.sliding_window = window
    return _difference(torch.cat(found), torch.cat(padded), model, f"{layout.name} and padded hidden states")


def tree_attention_fault(model: "PreTrainedModel", layout: "Layout") -> str | None:
    """Attention per tree: installed if the architecture allows it and batches still give the same results."""
    before = model.config._attn_implementation
    try:
        use_tree_attention(model)
    except ValueError as fault:
        return one_line(fault)
    try:
        difference = layout_fault(model, layout)
    except MODEL_FAULTS as fault:
        difference = _text(fault)
    if difference is not None:
        model.set_attn_implementation(before)
    return difference


def last_mlp_fault(model: "PreTrainedModel") -> str | None:
    """The last MLP at used positions only: installed if the trial finds the same hidden states."""
    mlp = last_mlp(trunk_of(model))
    if mlp is None:
        return "no module of the last block is named mlp"
    if computes_read_positions_only(mlp):
        return None
    trees = _trial_trees(model)
    batch = _padded(trees).to(model.device)
    with _trial(model):
        whole = hidden_states(model, batch, batch.last_token_index).float()
        undo = compute_read_positions_only(mlp)
        try:
            few = hidden_states(model, batch, batch.last_token_index).float()
        except MODEL_FAULTS as fault:
            undo()
            return _text(fault)
    difference = _difference(few, whole, model, "hidden states")
    if difference is not None:
        undo()
    return difference


def decoding_fault(model: "PreTrainedModel") -> str | None:
    """Compiled decoding: keys must reach ``attend`` unchanged from the cache, and the head size must be even."""
    from transformers.cache_utils import Cache

    from plaudit.models.acceleration.prefill import PrefillLayer

    if missing := missing_library():
        return missing
    cache = Cache(layer_class_to_replicate=PrefillLayer)
    tokens = torch.tensor([_trial_trees(model)[0].prompt], device=model.device)
    arguments = {"input_ids": tokens, "past_key_values": cache, "use_cache": True}
    trunk = trunk_of(model)
    accepted = accepted_arguments(trunk.__class__)
    if "past_key_values" not in accepted:
        return "the model takes no key/value cache"
    with _trial(model), forward_context(ForwardContext()):
        trunk(**arguments)
    if not all(layer.cached.reached for layer in cache.layers):
        return "the keys of its cache do not reach attention unchanged"
    sizes = {layer.keys.shape[-1] for layer in cache.layers}
    return "the head size is odd" if any(size % 2 for size in sizes) else None


def _text(fault: Exception) -> str:
    """Return the text of an exception that a model raised; re-raise it if memory ran out."""
    if is_out_of_memory(fault):
        raise fault
    return one_line(fault)


@contextmanager
def _trial(model: "PreTrainedModel") -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        model.train(training)


def _difference(found: Tensor, expected: Tensor, model: "PreTrainedModel", what: str) -> str | None:
    difference = ((found - expected).pow(2).mean() / expected.pow(2).mean()).sqrt().item()
    # Written so that NaN counts as a difference.
    return None if difference <= _tolerance(model.dtype) else f"{what} differ by {difference:.1e} in a trial"


def _tolerance(dtype: torch.dtype) -> float:
    return 0.05 if dtype.itemsize < torch.float32.itemsize else max(100 * torch.finfo(dtype).eps, 1e-5)


def _batches(layout: "Layout", trees: Sequence[PromptTree]) -> list[Batch]:
    positions = sum(tree.positions for tree in trees)
    return [layout.build(trees, part) for part in layout.split(trees, positions, positions)]


def _padded(trees: Sequence[PromptTree]) -> Batch:
    return PADDED.build(trees, range(len(trees)))


def _response_states(model: "PreTrainedModel", batch: Batch) -> Tensor:
    return hidden_states(model, batch, torch.cat([batch.predictor_index, batch.token_index])).float()


def _trial_trees(model: "PreTrainedModel") -> list[PromptTree]:
    generator, vocabulary = python_generator("layout trial"), int(model.config.vocab_size)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(vocabulary) for _ in range(count))

    return [
        PromptTree(tokens(7), (tokens(5), tokens(8), tokens(3))),
        PromptTree(tokens(4), (tokens(6),)),
        PromptTree(tokens(9), (tokens(2), tokens(7))),
    ]
