"""A Python function as a reward source."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

from plaudit.config.schema import RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.memory import in_batches, is_out_of_memory, responses_at_once
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample


class FunctionSource:
    """Scores by a function of (prompts: list[str], responses: list[str]) that returns one number each.

    Parameters that are named ``prompts`` and ``responses`` are passed by name, otherwise by position. A function with a
    parameter ``fields`` gets the other columns of the prompts' rows as well: a list of mappings.
    """

    def __init__(self, config: RewardSourceConfig, function: Callable[..., Any]) -> None:
        self.name = config.name
        self.function = function
        self.batch_size = responses_at_once(
            config.batch_size, f"reward source {config.name!r}", "let the function use less memory"
        )
        self.place = f"reward source {config.name!r}: {config.function}"

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return what the function says about each sample [samples]."""
        return torch.tensor(in_batches(samples, self.batch_size, self._scores))

    def _scores(self, batch: Sequence[Sample]) -> list[float]:
        return checked_scores(self._call(batch), len(batch), self.place).tolist()

    def _call(self, samples: Sequence[Sample]) -> Any:
        prompts = [sample.prompt_text for sample in samples]
        responses = [sample.response_text for sample in samples]
        parameters = inspect.signature(self.function).parameters
        extra = {"fields": [dict(sample.fields) for sample in samples]} if "fields" in parameters else {}
        try:
            if {"prompts", "responses"} <= parameters.keys():
                return self.function(prompts=prompts, responses=responses, **extra)
            return self.function(prompts, responses, **extra)
        except PlauditError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            raise PlauditError(f"{self.place} raised {type(error).__name__} at {where}: {error}") from error


def load_function(config: RewardSourceConfig) -> Callable[..., Any]:
    """Import ``module:name``; modules in the current directory are found. Raises PlauditError when that fails."""
    assert config.function is not None
    place = f"reward source {config.name!r}: {config.function}"
    module_name, separator, name = config.function.partition(":")
    if not (separator and module_name and name):
        raise PlauditError(f"{place} is no function: write module:name, such as my_rewards:politeness")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PlauditError(
            f"{place}: importing {module_name} raised {type(error).__name__}: {error}; "
            "run from the folder that holds the module, or install it"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise PlauditError(f"{place}: {module_name} has no function {name}")
    return function
