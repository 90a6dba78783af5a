"""The two products of attention for one token in every row, as loops that numba compiles.

Every key and value is read once, where it lies. Operators of torch would copy those that lie in room for more, and of
a single query they make products that are slower than memory. Numbers come in pairs: two of bfloat16 are one word of
32 bits, which two operations take apart; two of other types are a complex number.
"""

import sys
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

ANY_ORDER = {"reassoc", "contract", "nsz"}  # of sums; numbers that are not finite come out as such

if sys.platform != "linux":
    # Elsewhere a second OpenMP runtime next to torch's would end the process.
    numba.config.THREADING_LAYER = "workqueue"


@intrinsic
def _float_of_bits(_: Any, bits: Any) -> Any:
    def reinterpret(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(bits), reinterpret


def _two(pair: Any) -> Any:
    """Return the two numbers of a pair; of bfloat16, each is the upper half of a float32."""


@overload(_two, inline="always")
def _two_of_type(pair: Any) -> Any:
    def of_word(pair: Any) -> Any:
        return _float_of_bits(np.uint32(pair << 16)), _float_of_bits(np.uint32(pair & 0xFFFF0000))

    def of_complex(pair: Any) -> Any:
        return pair.real, pair.imag

    return of_word if pair == types.uint32 else of_complex


@numba.njit(fastmath=ANY_ORDER, cache=True)
def _score(query: Any, keys: Any, seen: Any, scores: Any) -> None:
    """Write q K^T; ``query`` [2, pairs], ``keys`` [columns, pairs], ``seen`` and ``scores`` [columns]."""
    for column in range(len(scores)):
        total = query.dtype.type(0)
        for place in range(query.shape[1]):
            first, second = _two(keys[column, place])
            total += query[0, place] * first + query[1, place] * second
        scores[column] = total if seen[column] else -np.inf


@numba.njit(fastmath=ANY_ORDER, cache=True)
def _add(shares: Any, values: Any, sums: Any) -> None:
    """Add the shares' sum of values; ``shares`` [columns], ``values`` [columns, pairs], ``sums`` [2, pairs]."""
    for column in range(len(shares)):
        for place in range(sums.shape[1]):
            first, second = _two(values[column, place])
            sums[0, place] += shares[column] * first
            sums[1, place] += shares[column] * second


@numba.njit(cache=True)
def _score_row(
    number: int, queries: Any, prompt_keys: Any, prompt_of_row: Any, keys: Any, seen: Any, scores: Any
) -> None:
    row, head = number // queries.shape[1], number % queries.shape[1]
    key_head, before = head // (queries.shape[1] // keys.shape[1]), prompt_keys.shape[2]
    query = queries[row, head]
    _score(query, prompt_keys[prompt_of_row[row], key_head], seen[row, :before], scores[row, head, :before])
    _score(query, keys[row, key_head], seen[row, before:], scores[row, head, before:])


@numba.njit(cache=True)
def _add_row(number: int, shares: Any, prompt_values: Any, prompt_of_row: Any, values: Any, sums: Any) -> None:
    row, head = number // sums.shape[1], number % sums.shape[1]
    key_head, before = head // (sums.shape[1] // values.shape[1]), prompt_values.shape[2]
    sums[row, head] = 0
    _add(shares[row, head, :before], prompt_values[prompt_of_row[row], key_head], sums[row, head])
    _add(shares[row, head, before:], values[row, key_head], sums[row, head])


# Four loops written out: numba would neither find again on disk what closes over other functions, nor tell apart what
# is to run on threads there.


@numba.njit(cache=True)
def _score_on_one_thread(queries: Any, *others: Any) -> None:
    for number in range(queries.shape[0] * queries.shape[1]):
        _score_row(number, queries, *others)


@numba.njit(parallel=True, cache=True)
def _score_on_threads(queries: Any, *others: Any) -> None:
    for number in numba.prange(queries.shape[0] * queries.shape[1]):
        _score_row(number, queries, *others)


@numba.njit(cache=True)
def _add_on_one_thread(shares: Any, *others: Any) -> None:
    for number in range(shares.shape[0] * shares.shape[1]):
        _add_row(number, shares, *others)


@numba.njit(parallel=True, cache=True)
def _add_on_threads(shares: Any, *others: Any) -> None:
    for number in numba.prange(shares.shape[0] * shares.shape[1]):
        _add_row(number, shares, *others)


def write_scores(*arrays: Any) -> None:
    """Write q K^T, or -inf where nothing is to be seen, on as many threads as torch has.

    Arguments: queries [rows, heads, 2, pairs]; prompt keys [prompts, key heads, prompt length, pairs], prompt of row
    [rows] and keys [rows, key heads, room, pairs] of ``RowStates``; seen and scores [rows, (heads,) columns].
    """
    (_score_on_threads if _on_threads() else _score_on_one_thread)(*arrays)


def add_values(*arrays: Any) -> None:
    """Write the sums of values, weighted by shares, on as many threads as torch has.

    Arguments: shares [rows, heads, columns]; prompt values, prompt of row and values; sums [rows, heads, 2, pairs].
    """
    (_add_on_threads if _on_threads() else _add_on_one_thread)(*arrays)


def _on_threads() -> bool:
    """Return whether torch has several threads, after giving numba as many.

    With one, OpenMP stays out of it: once started, it would end processes that are forked afterwards.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return False
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:  # numba's first call sets the number for all who use OpenMP
        torch.set_num_threads(threads)
    return True
