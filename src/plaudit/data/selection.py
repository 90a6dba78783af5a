"""Parts of long sequences by index, so that order, splits and weights are arithmetic on numbers."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from plaudit.seeding import python_generator

T = TypeVar("T")
U = TypeVar("U")

Indices = NDArray[np.int64]

_BLOCK = 1 << 16


class Lazy(Sequence[T], ABC):
    """A sequence whose items are made when they are read, also those of a slice."""

    @abstractmethod
    def item(self, index: int) -> T:
        """Return the item at an index from 0 to the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Selected(self, np.arange(len(self), dtype=np.int64)[index])
        return self.item(range(len(self))[index])


class Joined(Lazy[T]):
    """Several sequences, one after another; ``starts`` has the index of the first item of each."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self.parts = parts
        self.starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self.starts[-1]

    def item(self, index: int) -> T:
        """Return the item of a part."""
        part = bisect_right(self.starts, index) - 1
        return self.parts[part][index - self.starts[part]]


class Selected(Lazy[T]):
    """The items of a sequence at ``indices`` [N], in their order; an item may occur several times."""

    def __init__(self, items: Sequence[T], indices: Indices) -> None:
        self.items, self.indices = items, indices

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> T:
        """Return the item at an index."""
        return self.items[int(self.indices[index])]


class Mapped(Lazy[U]):
    """What a function returns for the items of a sequence, computed whenever an item is read."""

    def __init__(self, items: Sequence[T], function: Callable[[T], U]) -> None:
        self._items: Sequence[Any] = items
        self._function: Callable[[Any], U] = function

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> U:
        """Return what the function returns for an item."""
        return self._function(self._items[index])


def in_blocks(function: Callable[[slice], NDArray[Any]], count: int) -> NDArray[Any]:
    """Return what a function returns for parts of ``count`` items, one after another; it needs little memory."""
    return np.concatenate([function(slice(start, start + _BLOCK)) for start in range(0, max(count, 1), _BLOCK)])


def drawn(indices: Indices, most: int | None, seed: int, purpose: str) -> Indices:
    """Return the indices, or a random selection of ``most`` of them in their order, for this seed and purpose."""
    if most is None or len(indices) <= most:
        return indices
    chosen = python_generator(seed, "drawn", purpose).sample(range(len(indices)), most)
    selection: Indices = indices[np.sort(np.array(chosen))]
    return selection
