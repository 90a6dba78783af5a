"""Every process holds the whole model; gradients are summed over the processes once a step."""

from torch import Tensor

from plaudit.parallel.gradients import sum_gradients
from plaudit.parallel.single import SingleStrategy


class ReplicatedStrategy(SingleStrategy):
    """Weights, gradients and optimizer state are whole in each process and take the same steps."""

    def step(self) -> Tensor:
        """Sum the processes' gradients, clip and step; a norm that is not finite leaves the weights as they are."""
        sum_gradients(list(self.parameters.values()), self.processes)
        return super().step()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights and the optimizer's state in the main process: those of the others are the same."""
        return super().state() if self.processes.is_main else {}
