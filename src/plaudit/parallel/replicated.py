"""Every process holds the whole model; gradients are summed over the processes once per step."""

from torch import Tensor

from plaudit.parallel.gradients import sum_gradients
from plaudit.parallel.single import SingleStrategy


class ReplicatedStrategy(SingleStrategy):
    """Every process holds all weights, gradients and optimizer state, and takes the same steps."""

    def step(self) -> Tensor:
        """Sum the processes' gradients, clip, and take a step; if the norm is not finite, keep the weights."""
        sum_gradients(list(self.parameters.values()), self.processes)
        return super().step()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights and optimizer state in the main process, nothing in the others, which hold the same."""
        return super().state() if self.processes.is_main else {}
