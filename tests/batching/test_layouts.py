"""The tensors of packed and padded batches, and how trees are split into micro-batches, by hand."""

import pytest
import torch

from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree

TREES = [PromptTree((4, 5), ((6, 7), (8,))), PromptTree((9,), ((3,),)), PromptTree((10,), ((11, 12),))]


def test_packed_batch() -> None:
    batch = PACKED.build(TREES, [[0, 1], [2]])
    assert batch.input_ids.tolist() == [[4, 5, 6, 7, 8, 9, 3], [10, 11, 12, 0, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1], [0, 1, 2, 0, 0, 0, 0]]
    assert batch.mask.tree_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1], [2, 2, 2, -1, -1, -1, -1]]
    assert batch.mask.branch_ids.tolist() == [[0, 0, 1, 1, 2, 0, 1], [0, 1, 1, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [6, 7, 8, 3, 11, 12]
    assert batch.token_index.tolist() == [2, 3, 4, 6, 8, 9]
    assert batch.predictor_index.tolist() == [1, 2, 1, 5, 7, 8]
    assert batch.lengths.tolist() == [2, 1, 1, 2]
    assert batch.tree_spans == ((0, 0, 5), (0, 5, 7), (1, 0, 3))
    assert batch.tree_indices == (0, 1, 2)
    assert batch.trees == tuple(TREES)
    assert batch.layout is PACKED
    assert PACKED.needs_tree_mask


def test_padded_batch() -> None:
    batch = PADDED.build(TREES, [2, 0])
    assert batch.input_ids.tolist() == [[10, 11, 12, 0], [4, 5, 6, 7], [4, 5, 8, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3]] * 3
    assert batch.mask.tree_ids.tolist() == [[2, 2, 2, -1], [0, 0, 0, 0], [0, 0, 0, -1]]
    assert batch.mask.branch_ids.tolist() == [[0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 2, 0]]
    assert batch.targets.tolist() == [11, 12, 6, 7, 8]
    assert batch.token_index.tolist() == [1, 2, 6, 7, 10]
    assert batch.predictor_index.tolist() == [0, 1, 5, 6, 9]
    assert batch.lengths.tolist() == [2, 2, 1]
    assert batch.tree_spans == ()
    assert batch.tree_indices == (2, 0)
    assert batch.trees == (TREES[2], TREES[0])
    assert batch.layout is PADDED
    assert not PADDED.needs_tree_mask


def test_arguments_of_the_forward_pass() -> None:
    packed = PACKED.build(TREES, [[0, 1], [2]])
    assert set(PACKED.model_inputs(packed, needs_mask=False)) == {"input_ids", "position_ids"}
    inputs = PACKED.model_inputs(packed, needs_mask=True)
    assert torch.equal(inputs["attention_mask"], packed.dense_mask())
    assert torch.equal(inputs["input_ids"], packed.input_ids)
    assert torch.equal(inputs["position_ids"], packed.position_ids)
    padded = PADDED.build(TREES, [2, 0])
    inputs = PADDED.model_inputs(padded, needs_mask=False)
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert inputs["attention_mask"].dtype == torch.int64
    assert torch.equal(inputs["input_ids"], padded.input_ids)
    assert torch.equal(inputs["position_ids"], padded.position_ids)


def tree(prompt: int, *responses: int) -> PromptTree:
    """A tree with a prompt and responses of these lengths."""
    return PromptTree((5,) * prompt, tuple((6,) * length for length in responses))


# Rows of padded trees are as wide as prompt and longest response: 10, 5, 5, 3, 2, with 2, 1, 3, 1 and 1 responses.
WIDE = [tree(4, 6, 2), tree(3, 2), tree(1, 4, 1, 2), tree(2, 1), tree(1, 1)]


@pytest.mark.parametrize(
    "budget, parts",
    [
        # 3 rows of 10; then 3 + 1 + 1 rows of 5
        (30, [[0, 1], [2, 3, 4]]),
        # 2 rows of 10 alone; 1 + 3 rows of 5; a fifth would make 25, so that 1 + 1 rows of 3 follow
        (20, [[0], [1, 2], [3, 4]]),
        (16, [[0], [1], [2], [3, 4]]),
    ],
)
def test_padded_parts(budget: int, parts: list[list[int]]) -> None:
    assert PADDED.split(WIDE, budget, 100) == parts
    shuffled = [3, 0, 4, 1, 2]
    found = PADDED.split([WIDE[index] for index in shuffled], budget, 1)
    assert [[shuffled[index] for index in part] for part in found] == parts


def test_packed_parts() -> None:
    # Positions 5, 2 and 3. Rows of 5: one, and the other two together; both fit a budget of 10, not one of 9.
    assert PACKED.split(TREES, 10, 5) == [[[0], [1, 2]]]
    assert PACKED.split(TREES, 9, 5) == [[[0]], [[1, 2]]]
    assert PACKED.split(TREES, 5, 100) == [[[0]], [[1, 2]]]
    assert PACKED.split(TREES, 10, 100) == [[[0, 1, 2]]]
