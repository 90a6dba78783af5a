"""Losses of direct preference optimization: by hand, against slow loops, and what each converges to."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from padded_batches import Ranked, property_test, ranked_responses
from plaudit.algorithms.catalogue import PREFERENCE_LOSSES, PreferenceLossEntry
from plaudit.algorithms.direct_preference_losses import (
    conservative_dpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    mismatched_kl,
    plackett_luce_dpo_loss,
    robust_dpo_loss,
)
from plaudit.algorithms.interface import PreferenceInputs
from plaudit.algorithms.preference_losses import PreferenceLoss
from plaudit.plugins import import_function

# Prompt 0, a pair with beta (h_b - h_w) = ln 3 at beta 0.5. Prompt 1: h = 0, 0, 2 ln 2 with ranks 0, 1, 2, so that the
# scaled gaps are 0, -ln 2, -ln 2. Prompt 2: all tied, no pair.
LOG_RATIOS = torch.tensor([2 * math.log(3.0), 0.0, 0.0, 0.0, 2 * math.log(2.0), 9.0, -9.0])
PROMPTS, RANKS = torch.tensor([0, 0, 1, 1, 1, 2, 2]), torch.tensor([0, 1, 0, 1, 2, 1, 1])
SIZES = torch.tensor([4, 2, 5, 1, 2, 3, 3])


def value(found: PreferenceLoss) -> tuple[float, float]:
    return found.loss.item(), found.prompts.item()


def test_dpo_by_hand() -> None:
    # -ln 3/4 = 0.287682; (-ln 1/2 - ln 1/3 - ln 1/3) / 3 = 0.963457. Sum 1.251139.
    assert value(dpo_loss(LOG_RATIOS, PROMPTS, RANKS, 0.5)) == pytest.approx((1.251139, 2), abs=1e-6)


def test_conservative_dpo_by_hand() -> None:
    # e = 1/4. Prompt 0: -3/4 ln 3/4 - 1/4 ln 1/4 = 0.562335, the least there is: the gap is log (1 - e) / e = ln 3.
    # Prompt 1: 0.693147, and twice -3/4 ln 1/3 - 1/4 ln 2/3 = 0.925325: mean 0.847933. Sum 1.410268.
    found = conservative_dpo_loss(LOG_RATIOS, PROMPTS, RANKS, 0.5, 0.25)
    assert value(found) == pytest.approx((1.410268, 2), abs=1e-6)


def test_robust_dpo_by_hand() -> None:
    # e = 1/4. Prompt 0: 2 (-3/4 ln 3/4 + 1/4 ln 1/4) = -0.261624.
    # Prompt 1: 2 (3/4 - 1/4) ln 2 = 0.693147, and twice 2 (-3/4 ln 1/3 + 1/4 ln 2/3) = 1.445186: mean 1.194506.
    # Sum 0.932882.
    assert value(robust_dpo_loss(LOG_RATIOS, PROMPTS, RANKS, 0.5, 0.25)) == pytest.approx((0.932882, 2), abs=1e-6)


def test_ipo_by_hand() -> None:
    # 1 / (2 beta) = 1. Prompt 0: (2 ln 3 - 1)^2 = 1.433347. Prompt 1: 1, and twice (-2 ln 2 - 1)^2 = 5.694401:
    # mean 4.129601. Sum 5.562948.
    assert value(ipo_loss(LOG_RATIOS, PROMPTS, RANKS, 0.5)) == pytest.approx((5.562948, 2), abs=1e-5)


def test_plackett_luce_by_hand() -> None:
    # exp(beta h) is 3, 1 and 1, 1, 2. Prompt 0: -ln 3/4. Prompt 1: -ln 1/4 - ln 1/3 = 2.484907. Sum 2.772589.
    assert value(plackett_luce_dpo_loss(LOG_RATIOS, PROMPTS, RANKS, 0.5)) == pytest.approx((2.772589, 2), abs=1e-6)


def test_plackett_luce_with_ties_by_hand() -> None:
    # exp(beta h) is 1, 2, 4, 5 and the first two tie for best: each of them beats 4 and 5, not the other; the last two
    # tie for worst and beat nobody: -ln 1/10 - ln 2/11 = 2.302585 + 1.704748.
    log_ratios = torch.tensor([1.0, 2.0, 4.0, 5.0]).log()
    found = plackett_luce_dpo_loss(log_ratios, torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 1, 1]), 1.0)
    assert value(found) == pytest.approx((4.007333, 1), abs=1e-6)


def test_kto_by_hand() -> None:
    # beta 0.5, z = 2 ln 2: beta (h - z) is ln 3 - ln 2, -ln 2; then -ln 2, -ln 2, 0.
    # Prompt 0: desirable 1 - sigmoid(ln 3/2) = 2/5, undesirable sigmoid(-ln 2) = 1/3, weights 2 and 3: (0.8 + 1) / 2.
    # Prompt 1: desirable 2 (1 - 1/3) = 4/3, undesirable 3/3 = 1, desirable 2 (1/2) = 1: mean 10/9. Sum 2.011111.
    desirable = torch.tensor([True, False, True, False, True])
    found = kto_loss(LOG_RATIOS[:5], PROMPTS[:5], desirable, torch.tensor(2 * math.log(2.0)), 0.5, 2.0, 3.0)
    assert value(found) == pytest.approx((0.9 + 10 / 9, 2), abs=1e-6)


def test_mismatched_kl_by_hand() -> None:
    log_ratios = torch.tensor([1.0, -0.5, 2.5], requires_grad=True)
    found = mismatched_kl(log_ratios)
    assert (found.item(), found.requires_grad) == (1.0, False)
    assert mismatched_kl(-log_ratios).item() == 0


# Against slow loops ---------------------------------------------------------------------------------------------------


def pairs_of(data: Ranked) -> dict[int, list[float]]:
    """Gaps of each prompt's pairs."""
    gaps = defaultdict(list)
    rows = list(zip(data.scores.tolist(), data.prompts.tolist(), data.ranks.tolist(), strict=True))
    for s, p, i in rows:
        for t, q, j in rows:
            if p == q and i < j:
                gaps[p].append(s - t)
    return gaps


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


SLOW: dict[str, Callable[[float], float]] = {
    "dpo": lambda gap: softplus(-0.4 * gap),
    "cdpo": lambda gap: 0.8 * softplus(-0.4 * gap) + 0.2 * softplus(0.4 * gap),
    "robust_dpo": lambda gap: (0.8 * softplus(-0.4 * gap) - 0.2 * softplus(0.4 * gap)) / 0.6,
    "ipo": lambda gap: (gap - 1.25) ** 2,
}


def inputs_of(data: Ranked, settings: Mapping[str, float], lengths: Tensor | None = None) -> PreferenceInputs:
    """Inputs whose log-ratios are the scores."""
    reference = -3 - data.scores.abs()
    sizes = torch.ones_like(data.prompts) if lengths is None else lengths
    return PreferenceInputs(reference + data.scores, reference, sizes, data.prompts, data.ranks, settings, 0.3)


def loss_of(entry: PreferenceLossEntry, inputs: PreferenceInputs) -> Tensor:
    loss: Tensor = import_function(entry.function, "catalogue")(inputs).loss
    return loss


@property_test
@given(ranked_responses(), st.sampled_from(sorted(SLOW)))
def test_pair_losses_equal_slow_loops(data: Ranked, name: str) -> None:
    settings = {"beta": 0.4, "label_smoothing": 0.2}
    own = {key: settings[key] for key in PREFERENCE_LOSSES[name].defaults}
    loss = loss_of(PREFERENCE_LOSSES[name], inputs_of(data, own))
    gaps = pairs_of(data)
    expected = sum(sum(map(SLOW[name], group)) / len(group) for group in gaps.values())
    assert loss.item() == pytest.approx(expected)


@property_test
@given(ranked_responses())
def test_plackett_luce_equals_slow_loops(data: Ranked) -> None:
    expected, counted = 0.0, set()
    rows = list(zip((0.4 * data.scores).tolist(), data.prompts.tolist(), data.ranks.tolist(), strict=True))
    for r, p, i in rows:
        beaten = [t for t, q, j in rows if p == q and i < j]
        expected += math.log(sum(map(math.exp, [r, *beaten]))) - r
        counted |= {p} if beaten else set()
    assert value(plackett_luce_dpo_loss(data.scores, data.prompts, data.ranks, 0.4)) == pytest.approx(
        (expected, len(counted))
    )


def test_plackett_luce_probabilities_of_all_rankings_add_up_to_one() -> None:
    log_ratios, prompts = torch.tensor([0.3, -1.0, 2.0, 0.7]).double(), torch.zeros(4, dtype=torch.long)
    losses = [
        plackett_luce_dpo_loss(log_ratios, prompts, torch.tensor(ranks), 1.5).loss for ranks in permutations(range(4))
    ]
    assert torch.stack(losses).neg().exp().sum().item() == pytest.approx(1)


@property_test
@given(ranked_responses())
def test_on_pairs_plackett_luce_is_dpo(data: Ranked) -> None:
    scores, prompts = torch.cat([data.scores, data.scores.flip(0) + 1]), torch.arange(len(data.scores)).repeat(2)
    ranks = torch.cat([data.ranks, data.ranks + 1])
    assert_close(plackett_luce_dpo_loss(scores, prompts, ranks, 0.4).loss, dpo_loss(scores, prompts, ranks, 0.4).loss)


# What all of them have in common --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
@property_test
@given(data=ranked_responses(), draw=st.data())
def test_order_and_split_change_nothing(name: str, data: Ranked, draw: st.DataObject) -> None:
    objective = PREFERENCE_LOSSES[name]
    order = torch.tensor(draw.draw(st.permutations(range(len(data.scores)))))
    early = data.prompts < draw.draw(st.integers(0, 5))
    lengths = data.prompts + data.ranks + 1

    def result(part: Tensor) -> Tensor:
        of = inputs_of(Ranked(*(column[part] for column in data)), objective.defaults, lengths[part])
        return loss_of(objective, of)

    everything = torch.arange(len(data.scores))
    whole = result(everything)
    assert_close(result(order), whole)
    assert_close(result(everything[early]) + result(everything[~early]), whole)


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_nothing_to_compare(name: str) -> None:
    objective = PREFERENCE_LOSSES[name]
    nothing = torch.zeros(0, dtype=torch.long)
    log_probabilities = torch.zeros(0, requires_grad=True)
    of = PreferenceInputs(log_probabilities, torch.zeros(0), nothing, nothing, nothing, objective.defaults)
    loss = loss_of(objective, of)
    assert loss.item() == 0
    loss.backward()


@pytest.mark.parametrize("name", [name for name, entry in PREFERENCE_LOSSES.items() if entry.reads == "ranks"])
def test_a_prompt_with_only_ties_is_not_counted(name: str) -> None:
    objective = PREFERENCE_LOSSES[name]
    log_probabilities = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    same, ones = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    of = PreferenceInputs(log_probabilities, torch.zeros(3), ones, same, ones, objective.defaults)
    loss = loss_of(objective, of)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, log_probabilities)[0].any()


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_gradients_by_finite_differences(name: str) -> None:
    objective = PREFERENCE_LOSSES[name]
    generator = torch.Generator().manual_seed(3)
    policy = -3 * torch.rand(7, generator=generator, dtype=torch.float64)
    reference = -3 * torch.rand(7, generator=generator, dtype=torch.float64)

    def loss(log_probabilities: Tensor) -> Tensor:
        inputs = PreferenceInputs(log_probabilities, reference, SIZES, PROMPTS, RANKS, objective.defaults, 0.2)
        return loss_of(objective, inputs)

    assert torch.autograd.gradcheck(loss, policy.requires_grad_())


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_better_responses_rise_and_worse_ones_fall(name: str) -> None:
    """If the policy equals the reference: the gradient of a pair, and the order of the implicit rewards."""
    objective = PREFERENCE_LOSSES[name]
    log_probabilities = torch.tensor([-4.0, -4.0], requires_grad=True)
    same, sizes, ranks = torch.zeros(2, dtype=torch.long), torch.tensor([3, 3]), torch.tensor([0, 1])
    of = PreferenceInputs(log_probabilities, log_probabilities.detach(), sizes, same, ranks, objective.defaults)
    better, worse = torch.autograd.grad(loss_of(objective, of), log_probabilities)[0].tolist()
    assert better < 0 < worse
    moved = PreferenceInputs(
        torch.tensor([-3.9, -4.1]), log_probabilities.detach(), sizes, same, ranks, objective.defaults
    )
    rewards = import_function(objective.reward, name)(moved)
    assert rewards[0] > rewards[1]


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_extreme_and_narrow_numbers_stay_finite(name: str) -> None:
    objective = PREFERENCE_LOSSES[name]
    same, sizes = torch.zeros(2, dtype=torch.long), torch.tensor([300, 300])
    for extremes in ([-1e4, 0.0], [0.0, -1e4]):
        log_probabilities = torch.tensor(extremes, requires_grad=True)
        of = PreferenceInputs(log_probabilities, torch.zeros(2), sizes, same, torch.tensor([0, 1]), objective.defaults)
        loss = loss_of(objective, of)
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.autograd.grad(loss, log_probabilities)[0]).all()
    narrow = torch.tensor([-4.0, -5.0], dtype=torch.bfloat16)
    of = PreferenceInputs(narrow, narrow, sizes, same, torch.tensor([0, 1]), objective.defaults)
    assert loss_of(objective, of).dtype == torch.float32


def test_the_catalogue_says_what_each_loss_is() -> None:
    assert set(PREFERENCE_LOSSES) == {"dpo", "cdpo", "robust_dpo", "ipo", "plackett_luce", "kto", "simpo", "orpo"}
    assert {name for name, entry in PREFERENCE_LOSSES.items() if not entry.needs_reference} == {"simpo", "orpo"}
    assert all(entry.equation and entry.paper and "beta" in entry.defaults for entry in PREFERENCE_LOSSES.values())


# Where they converge to -----------------------------------------------------------------------------------------------


def best_gap(name: str, preferred: float, settings: dict[str, float]) -> float:
    """The gap ``h_b - h_w`` with the smallest expected loss if b is preferred with this probability."""
    objective, gap = PREFERENCE_LOSSES[name], torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zero, same, ones = torch.zeros(1, dtype=torch.float64), torch.tensor([0, 0]), torch.ones(2, dtype=torch.long)

    def expected() -> Tensor:
        losses = [
            loss_of(
                objective,
                PreferenceInputs(torch.cat([gap - 9, zero - 9]), torch.full((2,), -9.0), ones, same, r, settings),
            )
            for r in (torch.tensor([0, 1]), torch.tensor([1, 0]))
        ]
        return preferred * losses[0] + (1 - preferred) * losses[1]

    solver = torch.optim.LBFGS(
        [gap], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = expected()
        loss.backward()
        return loss

    solver.step(closure)
    return gap.item()


def test_minima_under_noisy_preferences() -> None:
    odds = math.log(0.7 / 0.3)
    assert best_gap("dpo", 0.7, {"beta": 0.5}) == pytest.approx(odds / 0.5, abs=1e-5)
    assert best_gap("plackett_luce", 0.7, {"beta": 0.5}) == pytest.approx(odds / 0.5, abs=1e-5)
    assert best_gap("cdpo", 1.0, {"beta": 0.5, "label_smoothing": 0.3}) == pytest.approx(odds / 0.5, abs=1e-5)
    # Clean labels prefer b with 0.8; flipped with probability 0.1 that is 0.74. The minimum is that of clean labels.
    robust = best_gap("robust_dpo", 0.74, {"beta": 0.5, "label_smoothing": 0.1})
    assert robust == pytest.approx(math.log(0.8 / 0.2) / 0.5, abs=1e-5)
    assert best_gap("ipo", 1.0, {"beta": 0.25}) == pytest.approx(2.0, abs=1e-6)
    assert best_gap("ipo", 0.7, {"beta": 0.25}) == pytest.approx(0.8, abs=1e-6)
    # Responses of one token: log-probability and mean are the same. With P = 0.7 labels (1 - P) pull the margin back:
    # P sigmoid(-(g - m)) = (1 - P) sigmoid(-(-g - m)).
    gap = best_gap("simpo", 0.7, {"beta": 2.0, "margin": 0.5})
    pull, back = (torch.sigmoid(torch.tensor(x)).item() for x in (-(2 * gap - 0.5), -(-2 * gap - 0.5)))
    assert 0.7 * pull == pytest.approx(0.3 * back, abs=1e-6)


def test_dpo_of_all_pairs_finds_the_optimum_of_rl() -> None:
    """Bradley-Terry labels of a reward over three responses: at pi ~ pi_ref exp(r / beta) the gradient vanishes."""
    reference, rewards, beta = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.4, -1.0, 2.0]).double(), 0.8
    optimum = (reference.log() + rewards / beta).softmax(0)
    for target, is_optimum in ((optimum, True), (reference, False)):
        logits = target.log().clone().requires_grad_()
        log_ratios = logits.log_softmax(0) - reference.log()
        total = torch.zeros((), dtype=torch.float64)
        for i, j in permutations(range(3), 2):
            found = dpo_loss(log_ratios[[i, j]], torch.tensor([0, 0]), torch.tensor([0, 1]), beta)
            total = total + torch.sigmoid(rewards[i] - rewards[j]) * found.loss
        assert (torch.autograd.grad(total, logits)[0].abs().max().item() < 1e-12) == is_optimum


def test_kto_follows_the_majority() -> None:
    def pull(share: float, weight: float) -> float:
        h = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        total = torch.zeros((), dtype=torch.float64)
        for label, probability in ((True, share), (False, 1 - share)):
            found = kto_loss(h, torch.tensor([0]), torch.tensor([label]), 0.0, 0.1, weight, 1.0)
            total = total + probability * found.loss
        return -torch.autograd.grad(total, h)[0].item()

    assert pull(0.6, 1.0) > 0 > pull(0.4, 1.0)
    assert pull(0.4, 2.0) > 0
