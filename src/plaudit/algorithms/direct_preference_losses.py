"""Direct preference optimization against a reference: losses of a policy over ranked, judged or labeled responses.

All are sums over prompts: divide by the number of counted prompts over all micro-batches and processes. The responses
of all prompts are stored flat, as in ``comparisons``: tensors are [responses] unless stated otherwise. With h the
log-ratio of a response,

    h(y) = log pi(y | x) - log pi_ref(y | x),    a sum over the response's tokens, in nats,

``beta h(y)`` is its implicit reward: the policy is the optimum of RL with that reward and a KL penalty of weight beta,
up to a constant per prompt (Rafailov et al. 2023, equation 5). In the losses over pairs, b and w are the better and the
worse response, and ties form no pair. The mean over a prompt's pairs is taken, so every prompt has the same weight.
``pairs``: the result of ``ranked_pairs``, if the caller already has it.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.algorithms.comparisons import Pairs, ranked_pairs, score_gaps
from plaudit.algorithms.masking import widened
from plaudit.algorithms.preference_losses import PreferenceLoss, mean_within_prompts, pairwise_ranking_loss


def dpo_loss(
    log_ratios: Tensor, prompts: Tensor, ranks: Tensor, beta: float, *, pairs: Pairs | None = None
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs of ``-log sigmoid(beta (h_b - h_w))``.

    This is the loss of a reward model, applied to implicit rewards. If b is preferred with probability P, the minimum
    is at ``beta (h_b - h_w) = log P / (1 - P)``. A pair that is always judged the same way has no minimum: its gap
    grows without bound. Source: Rafailov et al. 2023, equation 7.
    """
    return pairwise_ranking_loss(beta * widened(log_ratios), prompts, ranks, margin=0.0, pairs=pairs)


def conservative_dpo_loss(
    log_ratios: Tensor,
    prompts: Tensor,
    ranks: Tensor,
    beta: float,
    label_smoothing: float,
    *,
    pairs: Pairs | None = None,
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs, with ``z = beta (h_b - h_w)``, of::

        -(1 - e) log sigmoid(z) - e log sigmoid(-z)

    e, the label smoothing, is the assumed fraction of wrong labels; 0 gives DPO. A pair that is always judged the same
    way has a finite minimum, ``z = log (1 - e) / e``. Source: Mitchell 2023, "A note on DPO with noisy preferences and
    relationship to IPO" (cDPO).
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    logits = beta * score_gaps(log_ratios, pairs)
    losses = -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)
    return mean_within_prompts(losses, prompts[pairs.better])


def robust_dpo_loss(
    log_ratios: Tensor,
    prompts: Tensor,
    ranks: Tensor,
    beta: float,
    label_smoothing: float,
    *,
    pairs: Pairs | None = None,
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs, with ``z = beta (h_b - h_w)``, of::

        [-(1 - e) log sigmoid(z) + e log sigmoid(-z)] / (1 - 2 e)

    If labels are flipped with probability e (the label smoothing, below 1/2), the expected loss is the DPO loss on the
    original labels, so it converges to the same policy as DPO on clean labels. On a pair that is always judged the same
    way it is unbounded below: it falls like -z e / (1 - 2 e). Source: Chowdhury et al. 2024 (rDPO), section 3.
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    logits = beta * score_gaps(log_ratios, pairs)
    losses = label_smoothing * logsigmoid(-logits) - (1 - label_smoothing) * logsigmoid(logits)
    return mean_within_prompts(losses / (1 - 2 * label_smoothing), prompts[pairs.better])


def ipo_loss(
    log_ratios: Tensor, prompts: Tensor, ranks: Tensor, beta: float, *, pairs: Pairs | None = None
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs of ``(h_b - h_w - 1 / (2 beta))^2``.

    The minimum is finite: a gap of ``1 / (2 beta)`` nats for a pair that is always judged the same way, and
    ``(2 P - 1) / (2 beta)`` if b is preferred with probability P. h is a sum over tokens, as in the paper, not a mean.
    Source: Azar et al. 2023, equation 17, with beta for its tau.
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    losses = (score_gaps(log_ratios, pairs) - 1 / (2 * beta)).square()
    return mean_within_prompts(losses, prompts[pairs.better])


def plackett_luce_dpo_loss(
    log_ratios: Tensor, prompts: Tensor, ranks: Tensor, beta: float, *, pairs: Pairs | None = None
) -> PreferenceLoss:
    """Return the sum over prompts of the negative log-likelihood of a prompt's ranking of K responses::

        -sum_i [beta h_i - log (exp(beta h_i) + sum_{j ranked below i} exp(beta h_j))]

    The model (Plackett-Luce) draws a ranking best first, each time by a softmax over the responses that are left.
    Tied responses are not in each other's sum, because a tie carries no information. A prompt without two different
    ranks is not counted. With two responses this is DPO. At the minimum over many rankings, ``beta h`` equals the
    utilities they were drawn with, up to a constant per prompt. Source: Rafailov et al. 2023, appendix A.3; as a
    ranking loss: Xia et al. 2008 (ListMLE).
    """
    pairs, responses = pairs or ranked_pairs(prompts, ranks), torch.arange(len(prompts), device=prompts.device)
    rewards = beta * widened(log_ratios)
    # Each response i, with the rewards of the responses that it is chosen from: itself and those ranked below it.
    winner, beaten = torch.cat([responses, pairs.better]), rewards[torch.cat([responses, pairs.worse])]
    largest = rewards.detach().scatter_reduce(0, winner, beaten.detach(), "amax")
    sums = torch.zeros_like(rewards).index_add(0, winner, (beaten - largest[winner]).exp())
    losses = largest + sums.log() - rewards
    counted = torch.unique(prompts[pairs.better])
    return PreferenceLoss(loss=losses.sum(), prompts=torch.tensor(len(counted), device=losses.device))


def kto_loss(
    log_ratios: Tensor,
    prompts: Tensor,
    desirable: Tensor,
    reference_kl: Tensor | float,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's responses of::

        w_D [1 - sigmoid(beta (h - z))]    where the response is desirable (bool, [responses])
        w_U [1 - sigmoid(beta (z - h))]    where it is not

    z, ``reference_kl``, is an estimate of ``KL(pi || pi_ref)`` in nats, see ``mismatched_kl``; it carries no gradient.
    The losses lie between 0 and the weights and saturate, so clear cases stop contributing to the gradient. A response
    that is desirable with probability p is pushed without bound to the side of the larger of ``w_D p`` and
    ``w_U (1 - p)``: the policy learns the majority label, not the odds. Source: Ethayarajh et al. 2024, section 4.1.
    """
    offsets = beta * (widened(log_ratios) - reference_kl)
    losses = torch.where(
        desirable, desirable_weight * torch.sigmoid(-offsets), undesirable_weight * torch.sigmoid(offsets)
    )
    return mean_within_prompts(losses, prompts)


def mismatched_kl(log_ratios: Tensor) -> Tensor:
    """Return ``max(0, mean h(y_j | x_i))`` as a scalar without gradient, KTO's estimate of ``KL(pi || pi_ref)``.

    ``log_ratios`` [mismatched responses] are those of responses paired with another response's prompt. The estimate is
    biased by design: it only has to move with the policy. Source: Ethayarajh et al. 2024, section 4.1.
    """
    return widened(log_ratios).detach().mean().clamp(min=0)


def judged_dpo_loss(log_ratios: Tensor, prompts: Tensor, scores: Tensor, beta: float) -> PreferenceLoss:
    """Return the sum over prompts of the mean over all pairs (i, j) of a prompt of::

        -P log sigmoid(beta (h_i - h_j)) - (1 - P) log sigmoid(-beta (h_i - h_j)),   P = sigmoid(s_i - s_j)

    s are a judge's scores (rewards), which receive no gradient; a prompt with one response is not counted. At the
    minimum, ``beta (h_i - h_j) = s_i - s_j`` on every pair. The policy therefore converges to the optimum of RL with
    reward s and a KL penalty of weight beta, ``pi ~ pi_ref exp(s / beta)``, restricted to the responses in the data.
    The loss at the minimum is the mean entropy of P, not zero. Sources: Rafailov et al. 2023 (DPO), equation 7, in
    expectation over the label of a Bradley-Terry judge; Guo et al. 2024 (online DPO), where the policy samples the
    responses.
    """
    pairs = ranked_pairs(prompts, torch.arange(len(prompts), device=prompts.device))  # each pair once
    logits = beta * score_gaps(log_ratios, pairs)
    first_is_better = torch.sigmoid(score_gaps(scores.detach(), pairs))
    losses = -first_is_better * logsigmoid(logits) - (1 - first_is_better) * logsigmoid(-logits)
    return mean_within_prompts(losses, prompts[pairs.better])
