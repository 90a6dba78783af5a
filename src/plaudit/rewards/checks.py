"""Checks scores from user code and services before they are used."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from plaudit.errors import PlauditError


def checked_scores(values: Any, expected: int, place: str, truths: bool = False) -> torch.Tensor:
    """Return ``values`` as a float32 tensor [expected].

    With ``truths``, they may also all be truth values, as a function that compares with an answer returns them. Raises
    PlauditError, which begins with ``place``, if they are not ``expected`` numbers.
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
    if truths and all(map(_is_truth, values)):
        values = [float(value) for value in values]
    return torch.tensor([_number(value, index, place) for index, value in enumerate(values)], dtype=torch.float32)


def _number(value: Any, index: int, place: str) -> float:
    if _is_truth(value) or not isinstance(value, Real):
        remedy = "return 1 and 0 for true and false" if _is_truth(value) else "return only numbers"
        raise PlauditError(f"{place} returned {value!r:.80} as score {index}: {remedy}")
    try:
        return float(value)
    except (OverflowError, ValueError):
        raise PlauditError(f"{place} returned a number beyond floats as score {index}: return smaller ones") from None


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)
