"""Applies limits of length to tokenized rows by their lengths alone; a row is cut only when it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.indistinct import IDENTICAL, critical_lengths, indistinct_responses, without_responses
from plaudit.data.rows import Row
from plaudit.data.selection import Indices, Lazy, in_blocks
from plaudit.data.tokenized_row import TokenizedRow

R = TypeVar("R", bound=Row)
R_co = TypeVar("R_co", bound=Row, covariant=True)


class Trees(Protocol[R_co]):
    """Tokenized rows [N] before any limit, with their lengths."""

    @property
    def prompt_tokens(self) -> NDArray[Any]:
        """Length of each prompt in tokens, [N]."""
        ...

    @property
    def longest_response(self) -> NDArray[Any]:
        """Length of each row's longest response in tokens, [N]; 0 without responses."""
        ...

    @property
    def indistinct_at(self) -> NDArray[Any]:
        """The longest length of each row's responses at which some are indistinct, [N]; see ``critical_lengths``."""
        ...

    @property
    def nothing_left_at(self) -> NDArray[Any]:
        """The longest length of each row's responses at which nothing is left of it, [N]."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> TokenizedRow[R_co]: ...


class TreesInMemory(Generic[R]):
    """Tokenized rows in a list."""

    def __init__(self, rows: Sequence[TokenizedRow[R]]) -> None:
        self._rows = rows
        self.prompt_tokens = np.array([len(row.tree.prompt) for row in rows], np.int64)
        longest = [max(map(len, row.tree.responses), default=0) for row in rows]
        self.longest_response = np.array(longest, np.int64)
        critical = np.array([critical_lengths(row.row, row.tree) for row in rows], np.int64).reshape(-1, 2)
        self.indistinct_at, self.nothing_left_at = critical[:, 0], critical[:, 1]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> TokenizedRow[R]:
        return self._rows[number]


@dataclass(frozen=True)
class Limits:
    """The longest prompts and responses in tokens, alone and together, and the BOS token, which is never cut off."""

    prompt: int
    response: int
    together: int
    bos: int | None

    @classmethod
    def of(cls, config: DataConfig, context_length: int, tokenizer: Any) -> "Limits":
        """Return the limits of a data section for a model."""
        prompt, response = config.max_prompt_tokens, config.max_response_tokens
        return cls(prompt or context_length, response or context_length, context_length, tokenizer.bos_token_id)

    def exceeded(self, trees: Trees[Any], chosen: Indices) -> NDArray[np.bool_]:
        """Return which of the chosen rows are too long."""

        def exceeded(part: slice) -> NDArray[np.bool_]:
            prompt, longest = _lengths(trees, chosen[part])
            found: NDArray[np.bool_] = prompt + longest > self.together
            return found | (prompt > self.prompt) | (longest > self.response)

        return in_blocks(exceeded, len(chosen))

    def after_cutting(self, prompt: NDArray[Any], longest: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the most tokens of prompts and responses of these lengths.

        The prompt is limited to its own limit and to the part of the context that the longest response leaves, but to
        no less than half of the context.
        """
        left = np.maximum(self.together - np.minimum(longest, self.response), (self.together + 1) // 2)
        most = np.minimum(self.prompt, left)
        return most, np.minimum(self.response, self.together - np.minimum(prompt, most))

    def left_out(self, trees: Trees[Any], chosen: Indices, overlong: NDArray[np.bool_], cut: bool) -> float:
        """Return the fraction of the tokens of prompts and longest responses that overlong rows lose.

        ``cut``: whether they are cut; otherwise they are dropped.
        """

        def counts(part: slice) -> NDArray[Any]:
            """Return the number of tokens, and of those that are left out, [1, 2]."""
            prompt, longest = _lengths(trees, chosen[part])
            kept, limit = self.after_cutting(prompt, longest)
            rest = np.minimum(prompt, kept) + np.minimum(longest, limit) if cut else np.zeros_like(prompt)
            return np.array([[(prompt + longest).sum(), (prompt + longest - rest)[overlong[part]].sum()]])

        total, lost = in_blocks(counts, len(chosen)).sum(0).tolist()
        return float(lost / total)

    def cut(self, row: TokenizedRow[R], tokenizer: Any) -> TokenizedRow[R]:
        """Cut prompts from the left (a leading BOS token stays) and responses from the right."""
        tree, prompt = row.tree, row.tree.prompt
        longest = max(map(len, tree.responses), default=0)
        (most,), (limit,) = self.after_cutting(np.array([len(prompt)]), np.array([longest]))
        if len(prompt) > most:
            bos = prompt[:1] if prompt[0] == self.bos and most > 1 else ()
            prompt = bos + prompt[len(prompt) - most + len(bos) :]
        responses = tuple(response[:limit] for response in tree.responses)
        learned = None if tree.learned is None else tuple(flags[:limit] for flags in tree.learned)
        text = row.prompt_text if prompt == tree.prompt else tokenizer.decode(prompt, skip_special_tokens=True)
        return TokenizedRow(row.row, PromptTree(prompt, responses, learned=learned), text)

    def message(self, row: TokenizedRow[Any]) -> str:
        """Return that a row is too long, and the remedy."""
        origin, longest = row.row.origin, max(map(len, row.tree.responses), default=0)
        return (
            f"{origin.source} line {origin.line}: prompt of {len(row.tree.prompt)} tokens with response of {longest} "
            f"exceeds max_prompt_tokens, max_response_tokens or the context's {self.together}; raise them, or set "
            "overlong to drop or truncate"
        )


class LimitedRows(Lazy[TokenizedRow[R]]):
    """The chosen rows, cut and without indistinct responses where that is needed.

    ``chosen`` [M] are indices of ``trees``; ``overlong`` [M] says which of them are cut.
    """

    def __init__(
        self, trees: Trees[R], chosen: Indices, overlong: NDArray[np.bool_], limits: Limits, tokenizer: Any
    ) -> None:
        self.trees, self.chosen, self.overlong = trees, chosen, overlong
        self.limits, self.tokenizer = limits, tokenizer

    def __len__(self) -> int:
        return len(self.chosen)

    def item(self, index: int) -> TokenizedRow[R]:
        """Return a row."""
        row = self.trees[int(self.chosen[index])]
        row = self.limits.cut(row, self.tokenizer) if self.overlong[index] else row
        left_out = indistinct_responses(row.row, row.tree)
        left = without_responses(row.row, row.tree, left_out) if left_out else None
        return row if left is None else TokenizedRow(cast(R, left[0]), left[1], row.prompt_text)

    def only(self, kept: NDArray[np.bool_]) -> "LimitedRows[R]":
        """Return some of the rows, by a mask [M]."""
        if kept.all():
            return self
        return LimitedRows(self.trees, self.chosen[kept], self.overlong[kept], self.limits, self.tokenizer)

    def are_cut_to(self, lengths: NDArray[Any]) -> NDArray[np.bool_]:
        """Return in which rows the responses are cut to the given lengths, or further; ``lengths`` [N] as in trees.

        Rows that are not cut count if their length is ``IDENTICAL``.
        """

        def are_cut(part: slice) -> NDArray[np.bool_]:
            chosen = self.chosen[part]
            _, limit = self.limits.after_cutting(*_lengths(self.trees, chosen))
            given = lengths[chosen]
            found: NDArray[np.bool_] = (given > 0) & (given >= np.where(self.overlong[part], limit, IDENTICAL))
            return found

        return in_blocks(are_cut, len(self))


def _lengths(trees: Trees[Any], chosen: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
    return trees.prompt_tokens[chosen].astype(np.int64), trees.longest_response[chosen].astype(np.int64)
