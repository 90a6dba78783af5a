"""The weight of the KL penalty: fixed, or adapted so that the KL reaches a target."""

from collections.abc import Mapping

LARGEST_ERROR = 0.2
"""The relative error is clipped to this (Ziegler et al. 2019), so that one batch changes the coefficient little."""


class FixedKl:
    """A constant coefficient."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient

    def update(self, kl_per_sequence: float, responses: int) -> None:
        """Keep the coefficient."""

    def state_dict(self) -> dict[str, float]:
        """Return what ``load_state_dict`` takes."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore ``state``."""
        self.coefficient = float(state["coefficient"])


class AdaptiveKl(FixedKl):
    """A proportional controller that moves the KL per sequence towards ``target``, in nats.

    After n responses of mean sequence KL k::

        error       = clip(k / target - 1, -0.2, 0.2)
        coefficient = coefficient * (1 + error * n / horizon)

    ``horizon`` counts responses. The fraction ``n / horizon`` is at most 1, which keeps the coefficient positive if an
    iteration has more responses than the horizon. Source: Ziegler et al. 2019, section 2.2, and its code.
    """

    def __init__(self, coefficient: float, target: float, horizon: float) -> None:
        if target <= 0 or horizon <= 0:
            raise ValueError(f"target and horizon must be positive, not {target} and {horizon}")
        super().__init__(coefficient)
        self.target = target
        self.horizon = horizon

    def update(self, kl_per_sequence: float, responses: int) -> None:
        """Raise the coefficient when the mean over ``responses`` of the KL summed over tokens exceeds the target."""
        error = max(-LARGEST_ERROR, min(LARGEST_ERROR, kl_per_sequence / self.target - 1))
        self.coefficient *= 1 + error * min(responses / self.horizon, 1.0)
