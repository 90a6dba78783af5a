"""Loads the configured losses and advantage estimators: catalogue entries and user-defined functions."""

from collections.abc import Callable
from typing import Any

from plaudit.algorithms.catalogue import AdvantageEntry, Entry
from plaudit.algorithms.estimators import AdvantageInputs, Advantages
from plaudit.algorithms.interface import LossOutputs
from plaudit.errors import PlauditError
from plaudit.plugins import import_function, user_code

Loss = Callable[[Any], LossOutputs]
"""Takes the inputs of its family: ``PolicyInputs``, ``PreferenceInputs`` or ``RewardInputs``."""


def load_loss(entry: Entry, place: str) -> Loss:
    """Return the loss of an entry; ``place`` is the key that names it.

    Raises PlauditError if it cannot be imported. A user-defined loss is wrapped: the returned function raises
    PlauditError, with file and line, if the loss fails or does not return a differentiable scalar.
    """
    loss = import_function(entry.function, place)
    if entry.function.startswith("plaudit."):
        return loss
    where = f"{place}: {entry.function}"

    def checked(inputs: Any) -> LossOutputs:
        with user_code(where, loss):
            outputs = loss(inputs)
        if not isinstance(outputs, LossOutputs):
            raise PlauditError(f"{where} returned {type(outputs).__name__}: return LossOutputs(loss, metrics)")
        if outputs.loss.dim() or not outputs.loss.is_floating_point():
            shape = tuple(outputs.loss.shape)
            raise PlauditError(f"{where} returned a loss of shape {shape}: return a sum, a scalar of a floating type")
        return outputs

    return checked


def load_estimator(entry: AdvantageEntry, place: str) -> Callable[[AdvantageInputs], Advantages]:
    """Return the advantage estimator of an entry; ``place`` is the key that names it.

    Raises PlauditError if it cannot be imported. An estimator from outside is wrapped: the returned function raises
    PlauditError, with file and line, if the estimator fails or returns tensors of other shapes.
    """
    estimate = import_function(entry.function, place)
    if entry.function.startswith("plaudit."):
        return estimate
    where = f"{place}: {entry.function}"

    def checked(inputs: AdvantageInputs) -> Advantages:
        with user_code(where, estimate):
            found = estimate(inputs)
        if not isinstance(found, Advantages):
            raise PlauditError(
                f"{where} returned {type(found).__name__}: return Advantages(advantages, returns, scale)"
            )
        wanted = {"advantages": inputs.mask.shape, "returns": inputs.mask.shape, "scale": inputs.mask.shape[:1]}
        for name, shape in wanted.items():
            value = getattr(found, name)
            given = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            if given != tuple(shape):
                raise PlauditError(f"{where} returned {name} of shape {given}: return a tensor of shape {tuple(shape)}")
        return found

    return checked
