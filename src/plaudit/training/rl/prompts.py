"""The order of prompts, and the requests for responses to them."""

from collections.abc import Sequence

from plaudit.data.rows import PromptRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.rollouts.samples import Request
from plaudit.seeding import derived_seed
from plaudit.training.examples import Order

Requests = list[Request]
"""One request per response to a prompt."""


class PromptSchedule:
    """The prompts of all iterations, one epoch after another, each epoch in its own order.

    Args:
        rows: the prompts.
        prompts_per_iteration: batch size of the prompt order.
        responses_per_prompt: number of requests per prompt.
        key: the run's seed and the stage's name, from which seeds are derived.
    """

    def __init__(
        self,
        rows: Sequence[TokenizedRow[PromptRow]],
        prompts_per_iteration: int,
        responses_per_prompt: int,
        key: tuple[int, str],
    ) -> None:
        self.rows, self.responses_per_prompt, self.key = rows, responses_per_prompt, key
        self.order = Order(len(rows), prompts_per_iteration, key)
        self.drawn = 0

    def next(self, count: int) -> list[Requests]:
        """Return requests for the next prompts; after the last prompt of an epoch the next epoch begins."""
        requests = []
        for number in range(self.drawn, self.drawn + count):
            epoch, offset = divmod(number, len(self.rows))
            batch, within = divmod(offset, self.order.batch_size)
            index = self.order.batch(epoch * self.order.steps_per_epoch + batch + 1)[within]
            requests.append(self.requests(self.rows[index], self.responses_per_prompt, "rollout", number))
        self.drawn += count
        return requests

    def requests(self, prompt: TokenizedRow[PromptRow], responses: int, *key: int | str) -> Requests:
        """Return requests for responses to one prompt, with seeds derived from the schedule's key and ``key``."""
        return [Request.of(prompt, derived_seed(*self.key, *key, number)) for number in range(responses)]
