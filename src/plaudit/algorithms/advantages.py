"""Advantages, which measure how much better an action was than expected: per token (GAE, returns) or per response.

They are constants in the losses, because they are computed from numbers without gradient.
"""

import torch
from torch import Tensor

from plaudit.algorithms.masking import ROUNDING, widened, zero_masked


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lambda_: float) -> tuple[Tensor, Tensor]:
    """Return generalized advantage estimates and the returns that the value function learns::

        delta_t = r_t + gamma V_{t+1} - V_t
        A_t     = delta_t + gamma lambda A_{t+1}
        R_t     = A_t + V_t

    All tensors are [responses, time]; t + 1 is the next real token. After the last one V and A are zero: a response
    ends there, even if it was cut off. Masked positions get zeros. Source: Schulman et al. 2015, equation 16.
    """
    rewards, values = zero_masked(rewards, mask), zero_masked(values, mask)
    next_value = next_advantage = values.new_zeros(values.shape[0])
    advantages = []
    for step in reversed(range(values.shape[1])):
        reward, value, real = rewards[:, step], values[:, step], mask[:, step]
        advantage = reward + gamma * next_value - value + gamma * lambda_ * next_advantage
        advantages.append(advantage * real)
        next_value = torch.where(real, value, next_value)
        next_advantage = torch.where(real, advantage, next_advantage)
    stacked = torch.stack(advantages[::-1], dim=1) if advantages else torch.zeros_like(values)
    return stacked, stacked + values


def returns_to_go(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """Return ``G_t = r_t + gamma G_{t+1}`` over the real tokens, [responses, time]; zeros at masked positions.

    The advantages of REINFORCE++ before whitening. Source: Williams 1992; Hu et al. 2025 (REINFORCE++).
    """
    returns, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)
    return returns


def remax(scores: Tensor, greedy_scores: Tensor, group_size: int) -> Tensor:
    """Return ``A_i = r_i - r(greedy response to the same prompt)``, [responses].

    ``scores`` [responses], where every ``group_size`` consecutive responses answer one prompt; ``greedy_scores``
    [prompts]. Source: Li et al. 2023 (ReMax).
    """
    return widened(scores) - widened(greedy_scores).repeat_interleave(group_size)


def rloo(scores: Tensor, group_size: int) -> Tensor:
    """Return the leave-one-out advantage ``A_i = r_i - mean_{j != i} r_j`` of each response, [responses].

    ``scores`` [responses], where every ``group_size`` consecutive responses answer one prompt. Source: Kool et al.
    2019; Ahmadian et al. 2024. Raises ``ValueError`` for groups of one.
    """
    centered = _centered(scores, group_size)
    return (centered * (group_size / (group_size - 1))).flatten()


def group_centered(scores: Tensor, group_size: int) -> Tensor:
    """Return ``A_i = r_i - mean r``, where the mean is over the response's group: [responses] -> [responses].

    Source: Liu et al. 2025 (Dr. GRPO). Raises ``ValueError`` for groups of one.
    """
    return _centered(scores, group_size).flatten()


def group_deviation(scores: Tensor, group_size: int) -> Tensor:
    """Return the unbiased standard deviation of each response's group (divided by G - 1): [responses] -> [responses].

    Exactly zero for a group whose scores differ only by rounding. Raises ``ValueError`` for groups of one.
    """
    squares = _centered(scores, group_size).square().sum(dim=1)
    deviation = (squares / (group_size - 1)).sqrt()
    largest = widened(scores).reshape(-1, group_size).abs().amax(dim=1)
    return deviation.masked_fill(deviation <= ROUNDING * largest, 0.0).repeat_interleave(group_size)


def grpo(scores: Tensor, group_size: int, epsilon: float) -> Tensor:
    """Return the standardized advantage ``A_i = (r_i - mean r) / (std r + epsilon)`` of each response, [responses].

    ``scores`` [responses], where every ``group_size`` consecutive responses answer one prompt; mean and standard
    deviation are computed within such a group. A group whose scores differ only by rounding gets zeros. Source: Shao et
    al. 2024, section 4.1.2. Raises ``ValueError`` for groups of one.
    """
    deviation = group_deviation(scores, group_size)
    return (group_centered(scores, group_size) / (deviation + epsilon)).masked_fill(deviation == 0, 0.0)


def spread_over_tokens(advantages: Tensor, mask: Tensor) -> Tensor:
    """Give every real token its response's advantage: [responses], mask [responses, time] -> [responses, time]."""
    return zero_masked(advantages[:, None].expand_as(mask), mask)


def _centered(scores: Tensor, group_size: int) -> Tensor:
    """Return the scores minus their group's mean, [groups, group_size]."""
    if group_size < 2:
        raise ValueError("group_size is 1, but responses are compared within a group: use at least 2")
    if scores.numel() % group_size:
        raise ValueError(f"the number of responses, {scores.numel()}, must be a multiple of group_size, {group_size}")
    grouped = widened(scores).reshape(-1, group_size)
    # Subtracting the first score makes equal scores exactly zero. A rounded mean would leave a remainder, which the
    # division by the standard deviation would magnify.
    shifted = grouped - grouped[:, :1]
    return shifted - shifted.mean(dim=1, keepdim=True)
