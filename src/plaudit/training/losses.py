"""Loads the configured losses and advantage estimators: catalogue entries and user-defined functions."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from plaudit.algorithms.catalogue import AdvantageEntry, Entry
from plaudit.algorithms.estimators import AdvantageInputs, Advantages
from plaudit.algorithms.interface import LossOutputs, Maximum, Mean
from plaudit.errors import PlauditError
from plaudit.plugins import import_function, user_code

Loss = Callable[[Any], LossOutputs]
"""Takes the inputs of its family: ``PolicyInputs``, ``PreferenceInputs`` or ``RewardInputs``."""

Output = TypeVar("Output", LossOutputs, Advantages)


def load_loss(entry: Entry, place: str) -> Loss:
    """Return the loss of an entry; ``place`` is the key that names it.

    Raises PlauditError if it cannot be imported. A user-defined loss is wrapped: the returned function raises
    PlauditError, with file and line, if the loss fails or does not return a differentiable scalar with metrics.
    """

    def fault(inputs: Any, outputs: LossOutputs) -> str | None:
        """Return what is wrong with the outputs of a loss, and the remedy; None if nothing is."""
        if outputs.loss.dim() or not outputs.loss.is_floating_point():
            return f"a loss of shape {tuple(outputs.loss.shape)}: return a scalar of a floating-point type"
        for name, metric in outputs.metrics.items():
            if not isinstance(metric, Mean | Maximum):
                return f"a metric {name} of type {type(metric).__name__}: return Mean(total, count) or Maximum(value)"
        return None

    return _load(entry, place, LossOutputs, fault)


def load_estimator(entry: AdvantageEntry, place: str) -> Callable[[AdvantageInputs], Advantages]:
    """Return the advantage estimator of an entry; ``place`` is the key that names it.

    Raises PlauditError if it cannot be imported. An estimator from outside is wrapped: the returned function raises
    PlauditError, with file and line, if the estimator fails or returns tensors of other shapes.
    """

    def fault(inputs: AdvantageInputs, found: Advantages) -> str | None:
        """Return what is wrong with the tensors of an estimator, and the remedy; None if nothing is."""
        wanted = {"advantages": inputs.mask.shape, "returns": inputs.mask.shape, "scale": inputs.mask.shape[:1]}
        for name, shape in wanted.items():
            value = getattr(found, name)
            given = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            if given != tuple(shape):
                return f"{name} of shape {given}: return a tensor of shape {tuple(shape)}"
        return None

    return _load(entry, place, Advantages, fault)


def _load(
    entry: Entry, place: str, returns: type[Output], fault: Callable[[Any, Output], str | None]
) -> Callable[[Any], Output]:
    """Return the function of an entry. A function from outside Plaudit is wrapped, so that its output is checked.

    ``fault`` takes inputs and output and returns what is wrong with the output and what to return instead, or None.
    """
    function = import_function(entry.function, place)
    if entry.function.startswith("plaudit."):
        return function
    where = f"{place}: {entry.function}"

    def checked(inputs: Any) -> Output:
        """Call the function and check its output."""
        with user_code(where, function):
            output = function(inputs)
        if not isinstance(output, returns):
            parts = ", ".join(part.name for part in fields(returns))
            raise PlauditError(
                f"{where} returned a value of type {type(output).__name__}: return {returns.__name__}({parts})"
            )
        if (what := fault(inputs, output)) is not None:
            raise PlauditError(f"{where} returned {what}")
        return output

    return checked
