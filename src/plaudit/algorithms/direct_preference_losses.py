"""Direct preference optimisation: losses of a policy over prompts with ranked, judged or labelled responses.

All are sums over prompts: divide by the number of prompts that count, over all micro-batches and processes. Responses
lie flat, as in ``comparisons``: every argument but the settings is [responses]. With h the log-ratio of a response,

    h(y) = log pi(y | x) - log pi_ref(y | x),    a sum over the response's tokens, in nats,

``beta h(y)`` is the implicit reward: pi is the optimum of RL with that reward and a KL penalty of weight beta, up to a
constant of the prompt (Rafailov et al. 2023, equation 5). A prompt weighs the same however many pairs it has.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.algorithms.comparisons import ranked_pairs, score_gaps
from plaudit.algorithms.masking import widened
from plaudit.algorithms.preference_losses import PreferenceLoss


def judged_dpo_loss(log_ratios: Tensor, prompts: Tensor, scores: Tensor, beta: float) -> PreferenceLoss:
    """Return the sum over prompts of the mean over all pairs (i, j) of a prompt of::

        -P log sigmoid(beta (h_i - h_j)) - (1 - P) log sigmoid(-beta (h_i - h_j)),   P = sigmoid(s_i - s_j)

    s are a judge's scores (rewards), through which no gradient flows; a prompt with one response is not counted. The
    minimum has ``beta (h_i - h_j) = s_i - s_j`` on every pair, so the policy converges to that of RL with reward s and
    a KL penalty of weight beta, ``pi ~ pi_ref exp(s / beta)``, among the responses that are seen. Its value there is
    the mean entropy of P, not zero. Sources: Rafailov et al. 2023 (DPO), equation 7, in expectation over the label of a
    Bradley-Terry judge; Guo et al. 2024 (online DPO), where the responses are sampled from the policy.
    """
    pairs = ranked_pairs(prompts, torch.arange(len(prompts), device=prompts.device))  # each pair once
    logits = beta * score_gaps(log_ratios, pairs)
    first_is_better = torch.sigmoid(score_gaps(scores.detach(), pairs))
    losses = -first_is_better * logsigmoid(logits) - (1 - first_is_better) * logsigmoid(-logits)
    return _mean_over_pairs(losses, prompts[pairs.better])


def _mean_over_pairs(losses: Tensor, prompts: Tensor) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs; ``losses`` and ``prompts`` are [pairs]."""
    _, index, counts = torch.unique(prompts, return_inverse=True, return_counts=True)
    return PreferenceLoss(
        loss=(widened(losses) / counts[index]).sum(), prompts=torch.tensor(len(counts), device=losses.device)
    )
