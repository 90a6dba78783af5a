"""The two matrix products of attention for one new token in every row, as loops compiled by numba.

Every key and value is read once and never copied. torch operators would copy them, because a preallocated cache is not
contiguous, and their products with a single query do not reach memory bandwidth. Numbers are handled in pairs: two
bfloat16 numbers are one 32-bit word, which two operations split; two numbers of another type are a complex number.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from filelock import FileLock
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from plaudit.errors import one_line

logger = logging.getLogger("plaudit.models")

ANY_ORDER = {"reassoc", "contract", "nsz"}  # sums may be reordered; infinities and NaN are kept

if sys.platform != "linux":
    # Any other threading layer may load a second OpenMP runtime next to torch's, which would end the process.
    numba.config.THREADING_LAYER = "workqueue"


@intrinsic
def _float_of_bits(_: Any, bits: Any) -> Any:
    def reinterpret(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(bits), reinterpret


def _two(pair: Any) -> Any:
    """Return the two numbers of a pair; a bfloat16 number is the upper half of a float32."""


@overload(_two, inline="always")
def _two_of_type(pair: Any) -> Any:
    def of_word(pair: Any) -> Any:
        return _float_of_bits(np.uint32(pair << 16)), _float_of_bits(np.uint32(pair & 0xFFFF0000))

    def of_complex(pair: Any) -> Any:
        return pair.real, pair.imag

    return of_word if pair == types.uint32 else of_complex


@numba.njit(fastmath=ANY_ORDER)
def _score(query: Any, keys: Any, visible: Any, scores: Any) -> None:
    """Write q K^T; ``query`` [2, pairs], ``keys`` [columns, pairs], ``visible`` and ``scores`` [columns]."""
    for column in range(len(scores)):
        total = query.dtype.type(0)
        for pair in range(query.shape[1]):
            first, second = _two(keys[column, pair])
            total += query[0, pair] * first + query[1, pair] * second
        scores[column] = total if visible[column] else -np.inf


@numba.njit(fastmath=ANY_ORDER)
def _add(weights: Any, values: Any, sums: Any) -> None:
    """Add the weighted sum of values; ``weights`` [columns], ``values`` [columns, pairs], ``sums`` [2, pairs]."""
    for column in range(len(weights)):
        for pair in range(sums.shape[1]):
            first, second = _two(values[column, pair])
            sums[0, pair] += weights[column] * first
            sums[1, pair] += weights[column] * second


@numba.njit
def _score_row(
    number: int, queries: Any, prompt_keys: Any, prompt_of_row: Any, keys: Any, visible: Any, scores: Any
) -> None:
    row, head = number // queries.shape[1], number % queries.shape[1]
    key_head, before = head // (queries.shape[1] // keys.shape[1]), prompt_keys.shape[2]
    query = queries[row, head]
    _score(query, prompt_keys[prompt_of_row[row], key_head], visible[row, :before], scores[row, head, :before])
    _score(query, keys[row, key_head], visible[row, before:], scores[row, head, before:])


@numba.njit
def _add_row(number: int, weights: Any, prompt_values: Any, prompt_of_row: Any, values: Any, sums: Any) -> None:
    row, head = number // sums.shape[1], number % sums.shape[1]
    key_head, before = head // (sums.shape[1] // values.shape[1]), prompt_values.shape[2]
    sums[row, head] = 0
    _add(weights[row, head, :before], prompt_values[prompt_of_row[row], key_head], sums[row, head])
    _add(weights[row, head, before:], values[row, key_head], sums[row, head])


def _loop(**options: Any) -> Callable[[Any], Any]:
    """Compile a function and what it calls as a whole, and keep the result in numba's disk cache.

    What it calls must not be cached separately: compiled with some of it from the cache, a loop gives other bits.
    """

    def compiled(function: Any) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # numba found no folder for its cache
            logger.warning("numba cannot write a cache, so it compiles at every start; set NUMBA_CACHE_DIR to a folder")
            return numba.njit(**options)(function)

    return compiled


# Four separate loops: numba's disk cache neither reuses functions that close over others, nor distinguishes the
# parallel version of a function from the serial one.


@_loop()
def _score_on_one_thread(queries: Any, *others: Any) -> None:
    for number in range(queries.shape[0] * queries.shape[1]):
        _score_row(number, queries, *others)


@_loop(parallel=True)
def _score_on_threads(queries: Any, *others: Any) -> None:
    for number in numba.prange(queries.shape[0] * queries.shape[1]):
        _score_row(number, queries, *others)


@_loop()
def _add_on_one_thread(weights: Any, *others: Any) -> None:
    for number in range(weights.shape[0] * weights.shape[1]):
        _add_row(number, weights, *others)


@_loop(parallel=True)
def _add_on_threads(weights: Any, *others: Any) -> None:
    for number in numba.prange(weights.shape[0] * weights.shape[1]):
        _add_row(number, weights, *others)


def write_scores(*arrays: Any) -> None:
    """Write q K^T, or -inf where a key is not visible, on as many threads as torch has.

    Arguments: queries [rows, heads, 2, pairs]; from ``RowStates``, prompt keys [prompts, key heads, prompt length,
    pairs], prompt of row [rows] and keys [rows, key heads, capacity, pairs]; visible [rows, columns] and scores
    [rows, heads, columns].
    """
    _run(_score_on_threads if _on_threads() else _score_on_one_thread, arrays)


def add_values(*arrays: Any) -> None:
    """Write the sums of values, weighted by attention probabilities, on as many threads as torch has.

    Arguments: probabilities [rows, heads, columns]; prompt values, prompt of row and values, as for ``write_scores``;
    sums [rows, heads, 2, pairs].
    """
    _run(_add_on_threads if _on_threads() else _add_on_one_thread, arrays)


_LOADED: set[tuple[Any, Any, Any]] = set()
"""Loops and types of numbers for which this process has compiled code."""


def _run(loop: Any, arrays: Sequence[Any]) -> None:
    """Call a loop; the first time for these types under a lock.

    Two processes that compile for different types at once would write one file of numba's cache.
    """
    types = loop, arrays[0].dtype, arrays[1].dtype
    folder = None if types in _LOADED else loop.stats.cache_path
    with nullcontext() if folder is None else FileLock(Path(folder) / "decoding_kernel.lock"):
        try:
            loop(*arrays)
        except Exception as error:  # those of a damaged file are of many types
            files = [] if folder is None else sorted(Path(folder).glob(f"*.{loop.__name__}-*.nb[ic]"))
            if not files:
                raise
            for file in files:
                file.unlink()
            logger.warning("compiled %s again: numba's cache %s is damaged: %s", loop.__name__, folder, one_line(error))
            loop(*arrays)
    _LOADED.add(types)


def _on_threads() -> bool:
    """Return whether torch has several threads; if so, give numba the same number.

    With one thread OpenMP is not started, because it crashes processes that are forked afterwards.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return False
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:  # numba's first call changes it for every OpenMP library
        torch.set_num_threads(threads)
    return True
