"""A Python function as a reward source."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from plaudit.config.schema import FunctionReward
from plaudit.errors import PlauditError
from plaudit.memory import in_batches, is_out_of_memory, responses_at_once
from plaudit.plugins import import_function, where_it_failed
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample


class FunctionSource:
    """Scores with a function of (prompts: list[str], responses: list[str]) that returns one number per response.

    Parameters named ``prompts`` and ``responses`` are passed by name, otherwise by position. A function with a
    parameter ``fields`` also gets the other columns of the prompts' rows, as a list of mappings.
    """

    def __init__(self, config: FunctionReward, function: Callable[..., Any]) -> None:
        self.name = config.name
        self.function = function
        self.batch_size = responses_at_once(
            config.batch_size, f"reward source {config.name!r}", "reduce the memory that the function needs"
        )
        self.place = f"reward source {config.name!r}: {config.function}"

    @classmethod
    def load(cls, config: FunctionReward, device: torch.device) -> "FunctionSource":
        """Import the function. Raises PlauditError if that fails."""
        place = f"reward source {config.name!r}"
        return cls(config, import_function(config.function, place))

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the function's scores, [samples]."""
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
            where = where_it_failed(error, self.function)
            raise PlauditError(f"{self.place} raised {type(error).__name__} at {where}: {error}") from error
