"""Refuses targets of adapters that a model does not have, with the nearest names of those that it has."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from plaudit.errors import PlauditError

ALL_LINEAR = "all-linear"
SHOWN_NAMES = 4


def check_targets(model: nn.Module, targets: str | Sequence[str]) -> None:
    """Raise PlauditError if a name, or the regular expression, among ``targets`` fits no module with a matrix.

    peft itself ignores a name without a module as long as another one has some.
    """
    if targets == ALL_LINEAR:
        return
    if not targets:
        raise PlauditError(f"lora.targets: names no module; write {ALL_LINEAR}, or a list of names")
    modules = {name: module for name, module in model.named_modules() if name}
    matrices = [name for name, module in modules.items() if _has_matrix(module)]
    if isinstance(targets, str):
        found = [name for name in modules if _pattern(targets).fullmatch(name)]
        if not found:
            raise PlauditError(
                f"lora.targets: the regular expression {targets!r} matches the complete name of no module, such as "
                f"{matrices[-2]}; write a list of the ends of names instead{_nearest(targets, matrices)}"
            )
        _refuse_others(found, targets, matrices, modules)
        return
    for target in targets:
        found = modules_named(model, target)
        if not found:
            raise PlauditError(f"lora.targets: the model has no module {target!r}{_nearest(target, matrices)}")
        _refuse_others(found, target, matrices, modules)


def modules_named(model: nn.Module, end: str) -> list[str]:
    """Return the names of the modules whose names end in these parts."""
    return [name for name, _ in model.named_modules() if f".{name}".endswith(f".{end}")]


def _refuse_others(
    found: Sequence[str], target: str, matrices: Sequence[str], modules: Mapping[str, nn.Module]
) -> None:
    if others := [name for name in found if name not in matrices]:
        kind = type(modules[others[0]]).__name__
        raise PlauditError(
            f"lora.targets: {target!r} fits {others[0]} ({kind}), which has no weight matrix"
            f"{_nearest(target, matrices)}"
        )


def _pattern(text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as fault:
        raise PlauditError(
            f"lora.targets: {text!r} is not a regular expression ({fault}); write a list of names of modules"
        ) from fault


def _has_matrix(module: nn.Module) -> bool:
    weight: Any = getattr(module, "weight", None)
    return weight is not None and weight.dim() > 1


def _nearest(target: str, names: Sequence[str]) -> str:
    ends = dict.fromkeys(name.rpartition(".")[2] for name in names)
    return f"; nearest names: {', '.join(get_close_matches(target, ends, SHOWN_NAMES, cutoff=0.0))}"
