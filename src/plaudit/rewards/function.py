"""A Python function as a reward source."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from plaudit.config.schema import FunctionReward, RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.memory import in_batches, responses_at_once
from plaudit.plugins import import_function, user_code
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample


class FunctionSource:
    """Scores with a function of (prompts: list[str], responses: list[str]) that returns one number per response.

    Parameters named ``prompts`` and ``responses`` are passed by name, otherwise by position. A function with a
    parameter ``fields`` also gets the other columns of the prompts' rows, as a list of mappings; one with a parameter
    ``**columns`` gets each of them as a list with one value per response, None where a row lacks it.
    """

    def __init__(self, config: FunctionReward, function: Callable[..., Any]) -> None:
        self.name = config.name
        self.function = function
        self.parameters = _parameters(function) or {}
        self.batch_size = responses_at_once(
            config.batch_size, f"reward source {config.name!r}", "reduce the memory that the function needs"
        )
        self.place = f"reward source {config.name!r}: {config.function}"

    @classmethod
    def load(cls, config: FunctionReward, device: torch.device) -> "FunctionSource":
        """Import the function. Raises PlauditError if that fails, or if it has other parameters."""
        return cls(config, load_function(config))

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the function's scores, [samples]."""
        return torch.tensor(in_batches(samples, self.batch_size, self._scores))

    def _scores(self, batch: Sequence[Sample]) -> list[float]:
        return checked_scores(self._call(batch), len(batch), self.place, truths=True).tolist()

    def _call(self, samples: Sequence[Sample]) -> Any:
        prompts = [sample.prompt_text for sample in samples]
        responses = [sample.response_text for sample in samples]
        extra: dict[str, Any] = {}
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in self.parameters.values()):
            columns = dict.fromkeys(name for sample in samples for name in sample.fields if name not in self.parameters)
            extra = {name: [sample.fields.get(name) for sample in samples] for name in columns}
        if "fields" in self.parameters:
            extra["fields"] = [dict(sample.fields) for sample in samples]
        with user_code(self.place, self.function):
            if _takes_names(self.parameters):
                return self.function(prompts=prompts, responses=responses, **extra)
            return self.function(prompts, responses, **extra)


def check_functions(configs: Sequence[RewardSourceConfig]) -> None:
    """Raise PlauditError if the function of a source cannot be imported or called. Called before models are loaded."""
    for config in configs:
        if isinstance(config, FunctionReward):
            load_function(config)


def load_function(config: FunctionReward) -> Callable[..., Any]:
    """Import the function of a source. Raises PlauditError if that fails, or if it has other parameters."""
    place = f"reward source {config.name!r}"
    function = import_function(config.function, place)
    parameters = _parameters(function)
    if parameters is not None and not _can_be_called(parameters):
        raise PlauditError(
            f"{place}: {config.function}{inspect.signature(function)} has the wrong parameters: it must take (prompts, "
            "responses) or (prompts, responses, fields)"
        )
    return function


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters by name; None for functions written in C, whose signature is unknown."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return None


def _takes_names(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return {"prompts", "responses"} <= parameters.keys()


def _can_be_called(parameters: Mapping[str, inspect.Parameter]) -> bool:
    names = list(parameters)
    fields = {"fields": 0} if "fields" in names else {}
    signature = inspect.Signature(list(parameters.values()))
    try:
        if _takes_names(parameters):
            signature.bind(prompts=0, responses=0, **fields)
            return True
        signature.bind(0, 0, **fields)
    except TypeError:
        return False
    # Called by position, a parameter named prompts in another place would get the responses.
    return "prompts" not in names[1:] and "responses" not in names[:1]
