"""Attention masks of trees, and batches whose trees have tokens that are not learned."""

import pytest
import torch

from plaudit.batching import batches
from plaudit.batching.batches import Batch, TreeMask, dense_tree_mask, make_batches
from plaudit.batching.layouts.base import Layout
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree

# A prompt of one token with responses of two tokens and one; a second tree of one token; two of padding. The second
# row is a prompt of two tokens with a response of five.
TREE_IDS = torch.tensor([[0, 0, 0, 0, 1, -1, -1], [2] * 7])
BRANCH_IDS = torch.tensor([[0, 1, 1, 2, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]])

MIXED = PromptTree((4, 5), ((6, 7, 1), (8, 1)), learned=((False, True, False), (True, True)))
PLAIN = PromptTree((9,), ((3, 1),))


def seen(mask: torch.Tensor) -> list[list[int]]:
    """The keys that each query of a mask [queries, keys] attends to."""
    return [row.nonzero()[:, 0].tolist() for row in mask]


def test_dense_mask_by_hand() -> None:
    mask = dense_tree_mask(TREE_IDS, BRANCH_IDS)
    assert mask.shape == (2, 1, 7, 7)
    assert seen(mask[0, 0]) == [[0], [0, 1], [0, 1, 2], [0, 3], [4], [5], [6]]
    assert seen(mask[1, 0]) == [list(range(query + 1)) for query in range(7)]


def test_mask_of_a_part_of_a_tree_by_hand() -> None:
    mask = TreeMask(TREE_IDS, BRANCH_IDS)
    assert seen(mask.within_tree(0, slice(1, 4), slice(0, 4))) == [[0, 1], [0, 1, 2], [0, 3]]
    assert seen(mask.within_tree(1, slice(2, 4), slice(1, 4))) == [[0, 1], [0, 1, 2]]
    assert mask.real.int().tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]


def test_the_dense_mask_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = TreeMask(TREE_IDS, BRANCH_IDS)
    found = mask.dense()
    monkeypatch.setattr(batches, "dense_tree_mask", None)
    assert mask.dense() is found


def batch_of(*trees: PromptTree, layout: Layout = PACKED) -> Batch:
    (build,) = make_batches(trees, layout, 100, 100)
    return build()


def test_only_learned_tokens_are_targets() -> None:
    # Packed: 4 5 6 7 1 8 1 | 9 3 1. Learned are the 7 at 3, the 8 at 5 after the prompt, 1 at 6, 3 at 8 and 1 at 9.
    batch = batch_of(MIXED, PLAIN)
    assert batch.input_ids.tolist() == [[4, 5, 6, 7, 1, 8, 1, 9, 3, 1]]
    assert batch.targets.tolist() == [7, 8, 1, 3, 1]
    assert batch.token_index.tolist() == [3, 5, 6, 8, 9]
    assert batch.predictor_index.tolist() == [2, 1, 5, 7, 8]
    assert batch.lengths.tolist() == [1, 2, 2]
    assert batch.last_token_index.tolist() == [4, 6, 9]


def test_the_last_token_of_a_response_that_is_learned_whole() -> None:
    # Padded, the wider tree first: 4 5 6 7 1 | 4 5 8 1 0 | 9 3 1 0 0
    whole = PromptTree(MIXED.prompt, MIXED.responses)
    batch = batch_of(whole, PLAIN, layout=PADDED)
    assert batch.response_ends is None
    assert batch.lengths.tolist() == [3, 2, 2]
    assert batch.last_token_index.tolist() == [4, 8, 12]
    assert batch.positions == 15
    assert batch.learned_only() is batch


def test_every_tensor_moves() -> None:
    meta = torch.device("meta")
    batch = batch_of(MIXED, PLAIN)
    moved = batch.to(meta)
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {tensor.device for tensor in (*tensors, moved.mask.tree_ids, moved.mask.branch_ids)} == {meta}
    assert (moved.trees, moved.tree_indices, moved.tree_spans) == (batch.trees, batch.tree_indices, batch.tree_spans)


def test_each_function_builds_its_own_part() -> None:
    # Seven positions and three: a budget of seven makes two batches, which may be built in any order.
    first, second = make_batches([MIXED, PLAIN], PACKED, 7, 7)
    assert second().tree_indices == (1,)
    assert first().tree_indices == (0,)
