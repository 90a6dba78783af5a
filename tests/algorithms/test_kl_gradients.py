"""The gradient of the KL of whole responses equals the exact one, by enumerating all responses."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from plaudit.algorithms.advantages import returns_to_go
from plaudit.algorithms.kl import ESTIMATORS, kl_loss, own_token_correction
from plaudit.seeding import torch_generator

END, TOKENS, LENGTH = 0, 3, 3


def every_response() -> list[tuple[int, ...]]:
    """All responses of at most three tokens that end with END or at the limit."""
    found = set()
    for tokens in itertools.product(range(TOKENS), repeat=LENGTH):
        found.add(tokens[: tokens.index(END) + 1] if END in tokens else tokens)
    return sorted(found)


RESPONSES = every_response()
MASK = torch.arange(LENGTH) < torch.tensor([len(response) for response in RESPONSES])[:, None]


def logits_of(seed: str) -> Tensor:
    """A table of logits for every prefix: [prefixes, tokens]."""
    return torch.randn(40, TOKENS, generator=torch_generator(seed), dtype=torch.float64)


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities of the tokens of every response, [responses, LENGTH], zero after their ends."""
    table = logits.log_softmax(-1)
    rows = []
    for response in RESPONSES:
        row, prefix = [], 0
        for token in response:
            row.append(table[prefix, token])
            prefix = prefix * TOKENS + token + 1
        rows.append(torch.stack(row + [table.new_zeros(())] * (LENGTH - len(response))))
    return torch.stack(rows)


@pytest.fixture
def policy() -> Tensor:
    """The trainable logits."""
    return logits_of("policy").requires_grad_()


def gradient(loss: Tensor, policy: Tensor) -> Tensor:
    return torch.autograd.grad(loss, policy)[0]


def exact_gradient(policy: Tensor) -> Tensor:
    """The gradient of sum_y pi(y) (log pi(y) - log ref(y)), without sampling."""
    log_probs, reference = log_probabilities(policy), log_probabilities(logits_of("reference"))
    differences = (log_probs - reference).sum(1)
    return gradient((log_probs.sum(1).exp() * differences).sum(), policy)


def test_the_enumeration_is_complete(policy: Tensor) -> None:
    assert len(RESPONSES) == 1 + 2 + 4 * 3
    assert log_probabilities(policy).sum(1).exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_in_the_loss(policy: Tensor, estimator: str) -> None:
    log_probs, reference = log_probabilities(policy), log_probabilities(logits_of("reference"))
    drawn_with = log_probs.detach().sum(1).exp()
    kl = kl_loss(log_probs, log_probs.detach(), reference, MASK, estimator)
    assert_close(gradient((drawn_with * kl.sum(1)).sum(), policy), exact_gradient(policy))
    assert_close(kl.detach(), ESTIMATORS[estimator](log_probs, reference).detach() * MASK)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_in_the_reward(policy: Tensor, estimator: str) -> None:
    log_probs, reference = log_probabilities(policy), log_probabilities(logits_of("reference"))
    drawn_with = log_probs.detach().sum(1).exp()
    paid = ESTIMATORS[estimator](log_probs, reference).detach()
    advantages = returns_to_go(-paid, MASK, gamma=1.0)
    advantages = advantages + own_token_correction(log_probs, reference, MASK, estimator).detach()
    loss = -(drawn_with * (advantages * log_probs).sum(1)).sum()
    assert_close(gradient(loss, policy), exact_gradient(policy))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_differentiating_an_estimator_directly_is_wrong(policy: Tensor, estimator: str) -> None:
    log_probs, reference = log_probabilities(policy), log_probabilities(logits_of("reference"))
    drawn_with = log_probs.detach().sum(1).exp()
    naive = gradient((drawn_with * (ESTIMATORS[estimator](log_probs, reference) * MASK).sum(1)).sum(), policy)
    assert (naive - exact_gradient(policy)).abs().max() > 0.01


def test_k2_is_right_only_for_the_last_token(policy: Tensor) -> None:
    # A token's effect on later tokens is measured by k2, which is biased; its own term is exact.
    log_probs, reference = log_probabilities(policy), log_probabilities(logits_of("reference"))
    drawn_with = log_probs.detach().sum(1).exp()
    found = gradient((drawn_with * kl_loss(log_probs, log_probs.detach(), reference, MASK, "k2").sum(1)).sum(), policy)
    exact = exact_gradient(policy)
    deepest = slice(1 + TOKENS, None)  # prefixes of two tokens: nothing comes after the token that they predict
    assert_close(found[deepest], exact[deepest])
    assert (found[0] - exact[0]).abs().max() > 0.01


def test_a_moved_policy_is_corrected_by_the_ratio() -> None:
    old = torch.tensor([[-1.0]], dtype=torch.float64)
    new = torch.tensor([[-0.5]], dtype=torch.float64, requires_grad=True)
    kl = kl_loss(new, old, torch.tensor([[-2.0]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool), "k1")
    assert torch.autograd.grad(kl.sum(), new)[0].item() == pytest.approx(1.5 * torch.tensor(0.5).exp().item())
