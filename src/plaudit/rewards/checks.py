"""Checks scores from user code and services before they are used."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch

from plaudit.errors import PlauditError


def checked_scores(values: Any, expected: int, place: str) -> torch.Tensor:
    """Return ``values`` as a float32 tensor [expected].

    Raises PlauditError, which begins with ``place``, if they are not ``expected`` numbers.
    """
    if hasattr(values, "tolist"):  # torch tensors and numpy arrays, on any device
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise PlauditError(
            f"{place} returned a value of type {type(values).__name__}: return a list of {expected} numbers"
        )
    if len(values) != expected:
        raise PlauditError(
            f"{place} returned {len(values)} scores for {expected} responses: return one score per response"
        )
    return torch.tensor([_number(value, index, place) for index, value in enumerate(values)], dtype=torch.float32)


def _number(value: Any, index: int, place: str) -> float:
    if not isinstance(value, Real):
        raise PlauditError(f"{place} returned {value!r:.80} as score {index}: return only numbers")
    try:
        return float(value)
    except (OverflowError, ValueError):
        raise PlauditError(f"{place} returned a number beyond floats as score {index}: return smaller ones") from None
