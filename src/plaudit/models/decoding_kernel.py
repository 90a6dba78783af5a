"""Attention of one token in every row as loops that numba compiles: every key and value is read once, where it lies.

Operators of torch would pass over the keys several times, copy those that lie in room for more, and take bfloat16
apart first. Here a row and head at a time computes scores, softmax and the weighted sum of values in its own core.
"""

import sys
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

NAN_STAYS = {"reassoc", "contract", "nsz"}  # sums in any order; but numbers that are not finite come out as such

if sys.platform != "linux":
    # Elsewhere a second OpenMP beside torch's would end the process.
    numba.config.THREADING_LAYER = "workqueue"


@intrinsic
def _wide(_: Any, stored: Any) -> Any:
    """Turn bfloat16, which numba knows by its bits alone, into float32, whose upper half it is; leave other types."""
    if stored != types.uint16:
        return stored(stored), lambda _context, _builder, _signature, arguments: arguments[0]

    def shifted(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(arguments[0], word), ir.Constant(word, 16)), ir.FloatType())

    return types.float32(stored), shifted


@numba.njit(fastmath=NAN_STAYS, cache=True)
def _write_scores(query: Any, keys: Any, scores: Any) -> None:
    for column in range(len(scores)):
        total = query.dtype.type(0)
        for place in range(len(query)):
            total += query[place] * _wide(keys[column, place])
        scores[column] = total


@numba.njit(fastmath=NAN_STAYS, cache=True)
def _add_values(shares: Any, values: Any, output: Any) -> None:
    for column in range(len(shares)):
        for place in range(len(output)):
            output[place] += shares[column] * _wide(values[column, place])


@numba.njit(fastmath=NAN_STAYS, cache=True)
def _softmax(scores: Any, seen: Any, scale: Any) -> None:
    largest = -np.inf
    for column in range(len(scores)):
        scores[column] = scores[column] * scale if seen[column] else -np.inf
        largest = max(largest, scores[column])
    total = scores.dtype.type(0)
    for column in range(len(scores)):
        scores[column] = np.exp(scores[column] - largest)
        total += scores[column]
    scores /= total


@numba.njit(fastmath=NAN_STAYS, cache=True)
def _attend_row(
    place: int,
    queries: Any,
    prompt_keys: Any,
    prompt_values: Any,
    prompt_of_row: Any,
    keys: Any,
    values: Any,
    length: int,
    seen: Any,
    scale: float,
    output: Any,
) -> None:
    _, heads, size = queries.shape
    row, head = place // heads, place % heads
    prompt, key_head = prompt_of_row[row], head // (heads // keys.shape[1])
    before = prompt_keys.shape[2]
    scores = np.empty(before + length, queries.dtype)
    _write_scores(queries[row, head], prompt_keys[prompt, key_head], scores[:before])
    _write_scores(queries[row, head], keys[row, key_head], scores[before:])
    _softmax(scores, seen[row], scale)
    attended = np.zeros(size, queries.dtype)
    _add_values(scores[:before], prompt_values[prompt, key_head], attended)
    _add_values(scores[before:], values[row, key_head], attended)
    output[row, head] = attended


@numba.njit(cache=True)
def _on_one_thread(queries: Any, *others: Any) -> None:
    for place in range(queries.shape[0] * queries.shape[1]):
        _attend_row(place, queries, *others)


@numba.njit(parallel=True, cache=True)
def _on_threads(queries: Any, *others: Any) -> None:
    for place in numba.prange(queries.shape[0] * queries.shape[1]):
        _attend_row(place, queries, *others)


def attend_rows(*arrays: Any) -> None:
    """Write softmax(q K^T scale) V to ``output``, on as many threads as torch has.

    The arguments are the queries, prompt_keys, prompt_values, prompt_of_row, keys, values, length, seen, scale and
    output of ``_attend_row``: numpy arrays of ``RowStates``, of which bfloat16 arrives as uint16; ``queries`` and
    ``output`` [rows, heads, head size]; ``seen`` bool [rows, prompt length + length].
    """
    threads = torch.get_num_threads()
    if threads == 1:  # OpenMP, once started, ends processes that are forked afterwards
        _on_one_thread(*arrays)
        return
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:  # numba's first call sets the number for all who use OpenMP
        torch.set_num_threads(threads)
    _on_threads(*arrays)
