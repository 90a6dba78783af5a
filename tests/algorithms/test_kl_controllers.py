"""The KL controllers, step by step."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padded_batches import property_test
from plaudit.algorithms.kl_controllers import AdaptiveKl, FixedKl


def test_fixed_stays() -> None:
    controller = FixedKl(0.05)
    controller.update(kl_per_sequence=100.0, responses=10_000)
    assert controller.coefficient == 0.05


def test_adaptive_by_hand() -> None:
    controller = AdaptiveKl(coefficient=0.2, target=6.0, horizon=10_000)
    # 6.6 / 6 - 1 = 0.1; 0.2 * (1 + 0.1 * 500 / 10000) = 0.2 * 1.005 = 0.201
    controller.update(6.6, responses=500)
    assert controller.coefficient == pytest.approx(0.201)
    # 12 / 6 - 1 = 1, clipped to 0.2; 0.201 * (1 + 0.2 * 0.05) = 0.201 * 1.01 = 0.20301
    controller.update(12.0, responses=500)
    assert controller.coefficient == pytest.approx(0.20301)
    # -3 / 6 - 1 = -1.5, clipped to -0.2; 0.20301 * (1 - 0.2 * 0.1) = 0.20301 * 0.98 = 0.1989498
    controller.update(-3.0, responses=1000)
    assert controller.coefficient == pytest.approx(0.1989498)


def test_on_target_nothing_changes() -> None:
    controller = AdaptiveKl(0.3, target=4.0, horizon=100)
    controller.update(4.0, responses=64)
    assert controller.coefficient == 0.3


def test_more_responses_than_the_horizon_keep_the_coefficient_positive() -> None:
    # Without the limit: 1 - 0.2 * 1000 / 100 = -1.
    controller = AdaptiveKl(0.5, target=4.0, horizon=100)
    controller.update(0.0, responses=1000)
    assert controller.coefficient == pytest.approx(0.5 * 0.8)


def test_small_targets_and_horizons_are_allowed() -> None:
    # 1.0 / 0.5 - 1 = 1, clipped to 0.2; one response is a whole horizon: 0.1 * 1.2.
    controller = AdaptiveKl(0.1, target=0.5, horizon=1.0)
    controller.update(1.0, responses=1)
    assert controller.coefficient == pytest.approx(0.12)


@pytest.mark.parametrize("target,horizon", [(0.0, 10.0), (1.0, 0.0)])
def test_refuses_what_is_not_positive(target: float, horizon: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        AdaptiveKl(0.1, target, horizon)


@property_test
@given(st.lists(st.tuples(st.floats(-5, 50), st.integers(1, 500)), min_size=2, max_size=8))
def test_state_goes_through_json_and_on(rounds: list[tuple[float, int]]) -> None:
    straight = AdaptiveKl(0.1, target=6.0, horizon=2000)
    resumed = AdaptiveKl(0.1, target=6.0, horizon=2000)
    for kl, responses in rounds:
        straight.update(kl, responses)
        fresh = AdaptiveKl(99.0, target=6.0, horizon=2000)
        fresh.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
        fresh.update(kl, responses)
        resumed = fresh
    assert resumed.coefficient == straight.coefficient > 0


def test_it_reaches_the_target_of_a_simple_system() -> None:
    # A policy whose KL is 1 / coefficient has KL 8 at the coefficient 1/8.
    controller = AdaptiveKl(1.0, target=8.0, horizon=1000)
    for _ in range(400):
        controller.update(1 / controller.coefficient, responses=100)
    assert 1 / controller.coefficient == pytest.approx(8.0, rel=0.01)
