"""The losses of the catalogue, called by name: values by hand, metrics, and implicit rewards."""

import math
from dataclasses import replace

import pytest
import torch

from plaudit.algorithms.catalogue import POLICY_LOSSES, PREFERENCE_LOSSES, REWARD_LOSSES
from plaudit.algorithms.interface import LossOutputs, Maximum, Mean, PolicyInputs, PreferenceInputs, RewardInputs
from plaudit.algorithms.objectives import log_ratio_reward, mean_reward, odds_reward
from plaudit.algorithms.policy_losses import Clip
from plaudit.plugins import import_function


def policy_outputs(name: str) -> LossOutputs:
    """Ratios 2, 0.5 and, in the second response, 1.25; the advantage is 1, the clip 0.2 below and 0.3 above.

    The log-probabilities under the policy that sampled are -1.
    """
    inputs = PolicyInputs(
        log_probabilities=torch.tensor([[2.0, 0.5], [1.25, 9.0]]).log() - 1,
        old_log_probabilities=-torch.ones(2, 2),
        reference_log_probabilities=torch.zeros(2, 2),
        advantages=torch.ones(2, 2),
        weights=torch.ones(2, 2),
        mask=torch.tensor([[True, True], [True, False]]),
        clip=Clip(0.2, 0.3),
    )
    found: LossOutputs = import_function(POLICY_LOSSES[name].function, name)(inputs)
    return found


# PPO: 1.3 (clipped), 0.5, 1.25. GSPO: the ratio of the first response is sqrt(2 * 0.5) = 1. Plain: log pi.
@pytest.mark.parametrize(
    "name, loss, clipped, largest",
    [
        ("ppo", -1.3 - 0.5 - 1.25, 1, 2.0),
        ("gspo", -1 - 1 - 1.25, 0, 1.25),
        ("policy_gradient", 3 - math.log(2) - math.log(0.5) - math.log(1.25), 0, 2.0),
    ],
)
def test_policy_losses_and_their_metrics(name: str, loss: float, clipped: int, largest: float) -> None:
    found = policy_outputs(name)
    assert found.loss.item() == pytest.approx(loss, abs=1e-6)
    fraction, change, ratio = (found.metrics[key] for key in ("clip_fraction", "approximate_kl", "ratio/max"))
    assert isinstance(fraction, Mean)
    assert isinstance(change, Mean)
    assert isinstance(ratio, Maximum)
    assert (fraction.total, fraction.count, change.count) == (clipped, 3, 3)
    # ratio - 1 - ln ratio: 0.306853 + 0.193147 + 0.026856
    assert float(change.total) == pytest.approx(0.526856, abs=1e-6)
    assert float(ratio.value) == pytest.approx(largest)


# One prompt with two responses of 2 and 3 tokens: h = 1, -1 and l = -1/2, -1.
def preference_inputs(**settings: float) -> PreferenceInputs:
    return PreferenceInputs(
        log_probabilities=torch.tensor([-1.0, -3.0]),
        reference=torch.tensor([-2.0, -2.0]),
        lengths=torch.tensor([2, 3]),
        prompts=torch.tensor([0, 0]),
        ranks=torch.tensor([0, 1]),
        settings=settings,
    )


@pytest.mark.parametrize(
    "name, settings, loss",
    [
        # -ln sigmoid(1) = 0.313262, -ln sigmoid(-1) = 1.313262
        ("dpo", {"beta": 0.5}, 0.313262),
        ("plackett_luce", {"beta": 0.5}, 0.313262),
        ("cdpo", {"beta": 0.5, "label_smoothing": 0.1}, 0.413262),
        ("robust_dpo", {"beta": 0.5, "label_smoothing": 0.1}, 0.188262),
        ("ipo", {"beta": 0.5}, 1.0),
        # sigmoid(-0.5) = 0.377541 for both: (2 + 3) / 2 times that
        ("kto", {"beta": 0.5, "desirable_weight": 2.0, "undesirable_weight": 3.0}, 0.943852),
        # 2 (-1/2 + 1) - 0.5 = 0.5: -ln sigmoid(0.5)
        ("simpo", {"beta": 2.0, "margin": 0.5}, 0.474077),
        # log odds 0.432752 and -0.541325: 1/2 - 0.1 ln sigmoid(0.974077) = 0.5 + 0.1 * 0.320299
        ("orpo", {"beta": 0.1}, 0.532030),
    ],
)
def test_preference_losses(name: str, settings: dict[str, float], loss: float) -> None:
    found = import_function(PREFERENCE_LOSSES[name].function, name)(preference_inputs(**settings))
    assert found.loss.item() == pytest.approx(loss, abs=1e-6)


def test_implicit_rewards() -> None:
    inputs = replace(preference_inputs(beta=0.5), reference=torch.tensor([-4.0, -2.5]))
    assert log_ratio_reward(inputs).tolist() == [1.5, -0.25]
    assert mean_reward(preference_inputs(beta=2.0)).tolist() == [-1.0, -2.0]
    assert odds_reward(preference_inputs(beta=0.1)).tolist() == pytest.approx([0.0432752, -0.0541325], abs=1e-6)
    functions = {name: loss.reward.partition(":")[2] for name, loss in PREFERENCE_LOSSES.items()}
    assert functions.pop("simpo") == "mean_reward"
    assert functions.pop("orpo") == "odds_reward"
    assert set(functions.values()) == {"log_ratio_reward"}


def test_reward_losses() -> None:
    # Scores ln 6 and 0, ranks 0 and 2. A margin of ln(2) / 2 for each rank leaves ln 3: -ln 3/4. Softmax: 6/7.
    inputs = RewardInputs(
        torch.tensor([math.log(6), 0.0]), torch.tensor([0, 0]), torch.tensor([0, 2]), {"margin": math.log(2) / 2}
    )
    for name, expected in (("pairwise", 3 / 4), ("best_of_k", 6 / 7)):
        loss = import_function(REWARD_LOSSES[name].function, name)(inputs).loss
        assert loss.item() == pytest.approx(-math.log(expected), abs=1e-6)
