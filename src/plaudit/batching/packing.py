"""Assigns trees to rows by first-fit decreasing. The result is deterministic, and trees are never split."""

from collections.abc import Sequence


def pack_rows(sizes: Sequence[int], row_length: int) -> list[list[int]]:
    """Distribute items over rows of ``row_length`` positions; a longer item gets a row to itself.

    Returns the item indices of every row. First-fit decreasing (Johnson 1973) needs at most 11/9 of the optimal number
    of rows, plus one. Equal sizes keep their order, so the result depends only on the sizes.
    """
    rows: list[list[int]] = []
    free_space: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[index]
        target = next((row for row, free in enumerate(free_space) if free >= size), None)
        if target is None:
            rows.append([index])
            free_space.append(max(row_length - size, 0))
        else:
            rows[target].append(index)
            free_space[target] -= size
    return [sorted(row) for row in rows]


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
