"""Assigns trees to rows by first-fit decreasing. The result is deterministic, and trees are never split."""

from collections.abc import Sequence


def pack_rows(sizes: Sequence[int], row_length: int) -> list[list[int]]:
    """Distribute items over rows of ``row_length`` positions; a longer item gets a row to itself.

    Returns the item indices of every row. First-fit decreasing (Johnson 1973) needs at most 11/9 of the optimal number
    of rows, plus one. Equal sizes keep their order, so the result depends only on the sizes.
    """
    rows: list[list[int]] = []
    free_space = _FreeSpace(len(sizes), row_length)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        row = free_space.take(min(sizes[index], row_length))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
    return [sorted(row) for row in rows]


class _FreeSpace:
    """The free positions of rows, of which as many as needed are empty, in a tree of maxima.

    ``take`` finds the first row with enough room in O(log rows), so that millions of items can be packed.
    """

    def __init__(self, rows: int, row_length: int) -> None:
        self._leaves = 1 << max(rows - 1, 0).bit_length()
        self._most = [row_length] * (2 * self._leaves)

    def take(self, size: int) -> int:
        """Return the first row with ``size`` free positions, and occupy them."""
        most, node = self._most, 1
        while node < self._leaves:
            node *= 2
            if most[node] < size:
                node += 1
        row = node - self._leaves
        most[node] -= size
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
        return row


def group_by_budget(widths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group rows so that rows x widest row is at most ``token_budget``; a wider row is a group by itself.

    Rows are taken from the widest to the narrowest, so that a group holds rows of similar width.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(widths)), key=lambda i: -widths[i]):
        # The first row of a group is its widest.
        if groups and (len(groups[-1]) + 1) * widths[groups[-1][0]] <= token_budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
