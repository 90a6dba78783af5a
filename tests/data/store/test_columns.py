"""Entries of different lengths are found without the start of each in memory."""

import numpy as np
import pytest

from plaudit.data.selection import in_blocks
from plaudit.data.store.columns import Starts


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_starts_are_the_sums_of_earlier_lengths(count: int) -> None:
    lengths = np.random.default_rng(0).integers(0, 2**31, count).astype(np.uint32)
    starts = Starts(lengths)
    assert [starts[number] for number in range(count + 1)] == [
        sum(lengths[:number].tolist()) for number in range(count + 1)
    ]


@pytest.mark.parametrize("count", [0, 1, 65536, 65537, 200_000])
def test_parts_together_are_the_whole(count: int) -> None:
    numbers = np.arange(count)
    assert np.array_equal(in_blocks(lambda part: 3 * numbers[part], count), 3 * numbers)
