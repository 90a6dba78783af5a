"""Rows and micro-batches of given sizes, by hand and against the limits."""

from hypothesis import given
from hypothesis import strategies as st

from padded_batches import property_test
from plaudit.batching.packing import group_by_budget, pack_rows


def test_rows_by_hand() -> None:
    # Rows of 10, the largest first: 12 alone; 8, then 2 fills that row; 5, then 4 and 1 fill that one; 3.
    assert pack_rows([5, 3, 8, 2, 4, 12, 1], 10) == [[5], [2, 3], [0, 4, 6], [1]]
    assert pack_rows([], 10) == []


def test_equal_sizes_keep_their_order() -> None:
    assert pack_rows([4, 4, 4, 4, 4], 8) == [[0, 1], [2, 3], [4]]


def test_groups_by_hand() -> None:
    # Widths from the widest: 10, 10, 4, 3, 2, 1. A budget of 20 takes two rows of 10, then four of at most 4.
    assert group_by_budget([4, 10, 3, 10, 2, 1], 20) == [[1, 3], [0, 2, 4, 5]]
    # A budget of 12 takes one row of 10 and three of at most 4.
    assert group_by_budget([4, 10, 3, 10, 2, 1], 12) == [[1], [3], [0, 2, 4], [5]]
    assert group_by_budget([30, 1], 12) == [[0], [1]]
    assert group_by_budget([], 12) == []


@property_test
@given(st.lists(st.integers(1, 12), max_size=20), st.integers(1, 12))
def test_every_item_has_one_row_and_no_row_could_have_joined_an_earlier_one(sizes: list[int], length: int) -> None:
    rows = pack_rows(sizes, length)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    widths = [sum(sizes[index] for index in row) for row in rows]
    assert all(width <= length or len(row) == 1 for width, row in zip(widths, rows, strict=True))
    for number, row in enumerate(rows):
        smallest = min(sizes[index] for index in row)
        assert all(width + smallest > length for width in widths[:number])


@property_test
@given(st.lists(st.integers(1, 12), max_size=20), st.integers(1, 40))
def test_groups_keep_to_the_budget(widths: list[int], budget: int) -> None:
    groups = group_by_budget(widths, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(widths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(widths[index] for index in group) <= budget
