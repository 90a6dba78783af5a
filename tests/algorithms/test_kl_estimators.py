"""KL estimators against hand-computed numbers and the exact KL of small distributions."""

import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from padded_batches import Padded, padded_batches, property_test
from plaudit.algorithms.kl import k1, k2, k3, sequence_kl
from plaudit.seeding import torch_generator


def test_by_hand() -> None:
    # policy 1/2, reference 1/4: d = ln 2. k1 = ln 2; k2 = ln(2)^2 / 2; k3 = 1/2 - 1 + ln 2
    policy, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert k1(policy, reference).item() == pytest.approx(0.693147, abs=1e-6)
    assert k2(policy, reference).item() == pytest.approx(0.240227, abs=1e-6)
    assert k3(policy, reference).item() == pytest.approx(0.193147, abs=1e-6)
    # the other way round: d = -ln 2. k1 = -ln 2; k2 the same; k3 = 2 - 1 - ln 2
    assert k1(reference, policy).item() == pytest.approx(-0.693147, abs=1e-6)
    assert k2(reference, policy).item() == pytest.approx(0.240227, abs=1e-6)
    assert k3(reference, policy).item() == pytest.approx(0.306853, abs=1e-6)


def test_k1_and_k3_are_unbiased_and_k2_nearly() -> None:
    # p = (1/2, 1/2), q = (3/4, 1/4): KL = 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3) = 0.143841
    # E k2 = 1/4 (ln(2/3)^2 + ln(2)^2) = 1/4 (0.164402 + 0.480453) = 0.161214
    p, q = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert (p * k1(p.log(), q.log())).sum().item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)
    assert (p * k3(p.log(), q.log())).sum().item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)
    assert (p * k2(p.log(), q.log())).sum().item() == pytest.approx(0.161214, abs=1e-6)


def test_gradients_as_loss_terms() -> None:
    logits = torch.randn(5, generator=torch_generator("gradients"), dtype=torch.float64).requires_grad_()
    reference = torch.randn(5, generator=torch_generator("reference"), dtype=torch.float64).log_softmax(0)
    log_probs = logits.log_softmax(0)
    drawn_with = log_probs.detach().exp()

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    forward_kl = gradient((log_probs.exp() * (log_probs - reference)).sum())
    backward_kl = gradient((reference.exp() * (reference - log_probs)).sum())
    assert_close(gradient((drawn_with * k1(log_probs, reference)).sum()), torch.zeros_like(logits))
    assert_close(gradient((drawn_with * k2(log_probs, reference)).sum()), forward_kl)
    assert_close(gradient((drawn_with * k3(log_probs, reference)).sum()), backward_kl)


def test_k3_keeps_its_digits_near_zero() -> None:
    # d = 1e-3: exp(-d) - 1 + d = d^2/2 - d^3/6 = 4.998334e-7; exp() - 1 in float32 is off by 1e-8 and more.
    assert k3(torch.tensor([1e-3]), torch.tensor([0.0])).item() == pytest.approx(4.998334e-7, rel=1e-3)


def test_bfloat16_is_widened_before_the_difference() -> None:
    # -1 and -1.0078125 are neighbors in bfloat16; squared and halved: 3.0517578e-5, exact in float32
    a, b = torch.tensor([-1.0], dtype=torch.bfloat16), torch.tensor([-1.0078125], dtype=torch.bfloat16)
    assert k2(a, b).dtype == torch.float32
    assert k2(a, b).item() == 0.0078125**2 / 2


def test_sequence_kl_by_hand() -> None:
    kl = torch.tensor([[0.5, -0.25, torch.nan], [2.0, torch.inf, 7.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert sequence_kl(kl, mask).tolist() == [0.25, 2.0, 0.0]


@property_test
@given(padded_batches())
def test_properties(batch: Padded) -> None:
    policy, reference = batch.values("policy"), batch.values("reference")
    for estimator in (k1, k2, k3):
        kl = estimator(policy, reference)
        slow = [sum(kl[row, step].item() for step in range(length)) for row, length in enumerate(batch.lengths)]
        summed = sequence_kl(estimator(batch.soiled(policy), batch.soiled(reference)), batch.mask)
        assert_close(summed, torch.tensor(slow, dtype=torch.float64))
        assert not estimator(policy, policy).any()
    assert (k2(policy, reference) >= 0).all()
    assert (k3(policy, reference) >= 0).all()
