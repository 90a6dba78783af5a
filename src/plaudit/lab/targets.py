"""The targets of algorithms that do not converge to ``pi*``: closed forms, and minima of the expected loss.

All return log-probabilities, float64 [prompts, responses]. Choices are Bradley-Terry: response i is preferred to j with
probability ``P_ij = sigmoid(r_i - r_j)``, and every pair is as likely as any other.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.lab.exact import Exact, best_of_n
from plaudit.lab.problem import responses

PairLoss = Callable[[Tensor, Exact], Tensor]
"""From log-probabilities [prompts, responses] to the loss of preferring i to j, [prompts, responses i, responses j]."""

ROUNDS = 2000


def optimum(exact: Exact) -> Tensor:
    """``pi*``."""
    return exact.optimum()


def best_of(n: int) -> Callable[[Exact], Tensor]:
    """The distribution of the best of ``n`` responses of the reference."""
    return lambda exact: best_of_n(exact.reference, exact.rewards, n)


def ipo(exact: Exact, beta: float) -> Tensor:
    """IPO's optimum ``pi ~ ref exp(mean_j P_ij / beta)``. Source: Azar et al. 2023, equation 7."""
    return (exact.reference + _preferences(exact).mean(-1) / beta).log_softmax(-1)


def divided_reward(exact: Exact) -> Tensor | None:
    """The optimum ``pi ~ ref exp(r / (beta s))`` where rewards are divided by their standard deviation s under ``pi``.

    Of several fixed points this is the one nearest to the reference; None if a prompt has none and training ends at a
    single response.
    """
    sharpness = torch.zeros_like(exact.rewards[:, :1])
    for _ in range(ROUNDS):
        policy = (exact.reference + sharpness * exact.rewards).log_softmax(-1)
        before, sharpness = sharpness, 1 / (exact.beta * _deviation(policy.exp(), exact.rewards))
        if (sharpness - before).abs().max() < 1e-9:
            return policy
    return None


def _deviation(probabilities: Tensor, values: Tensor) -> Tensor:
    means = (probabilities * values).sum(-1, keepdim=True)
    return (probabilities * (values - means).square()).sum(-1, keepdim=True).sqrt()


def minimum(loss: PairLoss, exact: Exact) -> Tensor:
    """The policy that minimizes ``sum_ij P_ij loss_ij`` over pairs of different responses, by L-BFGS."""
    different = 1 - torch.eye(exact.rewards.shape[1], dtype=torch.float64)
    weights = _preferences(exact) * different / exact.rewards.numel()
    logits = exact.reference.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=5000, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def expected() -> Tensor:
        optimizer.zero_grad()
        total = (weights * loss(logits.log_softmax(-1), exact)).sum()
        total.backward()
        return total

    optimizer.step(expected)
    return logits.detach().log_softmax(-1)


def cdpo_loss(smoothing: float) -> PairLoss:
    """DPO's loss with a fraction ``smoothing`` of every label flipped (Mitchell 2023)."""

    def loss(policy: Tensor, exact: Exact) -> Tensor:
        logits = exact.beta * gaps(policy - exact.reference)
        return -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)

    return loss


def simpo_loss(beta: float, margin: float) -> PairLoss:
    """The logistic loss of mean log-probabilities, without a reference (Meng et al. 2024)."""
    return lambda policy, exact: -logsigmoid(beta * gaps(policy / _lengths()) - margin)


def orpo_loss(beta: float) -> PairLoss:
    """SFT on the better response, and the logistic loss of log-odds (Hong et al. 2024)."""

    def loss(policy: Tensor, exact: Exact) -> Tensor:
        means = policy / _lengths()
        odds = means - torch.log(-torch.expm1(means))
        return -means[:, :, None] - beta * logsigmoid(gaps(odds))

    return loss


def gaps(values: Tensor) -> Tensor:
    """Return ``v_i - v_j``, [prompts, responses i, responses j]."""
    return values[:, :, None] - values[:, None, :]


def _preferences(exact: Exact) -> Tensor:
    return torch.sigmoid(gaps(exact.rewards))


def _lengths() -> Tensor:
    return torch.tensor([len(response) for response in responses()], dtype=torch.float64)
