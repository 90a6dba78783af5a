"""Loads the configured losses: catalogue entries and user-defined functions."""

from collections.abc import Callable
from typing import Any

from plaudit.algorithms.catalogue import Entry
from plaudit.algorithms.interface import LossOutputs
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.plugins import import_function, where_it_failed

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
        try:
            outputs = loss(inputs)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, PlauditError):
                raise
            line = where_it_failed(error, loss)
            raise PlauditError(f"{where} raised {type(error).__name__} at {line}: {error}") from error
        if not isinstance(outputs, LossOutputs):
            raise PlauditError(f"{where} returned {type(outputs).__name__}: return LossOutputs(loss, metrics)")
        if outputs.loss.dim() or not outputs.loss.is_floating_point():
            shape = tuple(outputs.loss.shape)
            raise PlauditError(f"{where} returned a loss of shape {shape}: return a sum, a scalar of a floating type")
        return outputs

    return checked
