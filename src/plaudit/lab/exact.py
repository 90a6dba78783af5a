"""Exact quantities of a problem: the optimum, and the value and distance of any policy. All in float64.

A policy is its table of log-probabilities [prompts, responses] (each row adds up to one). Expectations over prompts
are means: every prompt is as likely as any other.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.lab.problem import complete_trees


@torch.no_grad()
def enumerate_policy(model: Any) -> Tensor:
    """Return the log-probability of every response under a transformers model, float64 [prompts, responses].

    The model is changed to float64.
    """
    return sequence_log_probabilities(model.double().eval())


def sequence_log_probabilities(model: Any) -> Tensor:
    """Return the log-probability of every response in the model's own precision, [prompts, responses].

    One plain forward pass per prompt over rows of prompt and response. They are padded on the right, so a causal
    model's states do not depend on the padding.
    """
    return torch.stack([_log_probabilities(model, tree) for tree in complete_trees()])


def _log_probabilities(model: Any, tree: PromptTree) -> Tensor:
    start = len(tree.prompt)
    rows = [torch.tensor(tree.prompt + response) for response in tree.responses]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    logits: Tensor = model(input_ids=ids).logits[:, start - 1 : -1]
    each = logits.log_softmax(-1).gather(2, ids[:, start:, None])[:, :, 0]
    lengths = torch.tensor([len(response) for response in tree.responses])
    return each.masked_fill(torch.arange(each.shape[1]) >= lengths[:, None], 0.0).sum(1)


@dataclass(frozen=True)
class Exact:
    """The objective ``J(pi) = E[r] - beta KL(pi || ref)`` with its reference and rewards as tables."""

    reference: Tensor
    rewards: Tensor
    beta: float

    def optimum(self) -> Tensor:
        """Return ``log pi*``, where ``pi* = ref exp(r / beta) / Z`` row by row."""
        return (self.reference + self.rewards / self.beta).log_softmax(-1)

    def values(self, policy: Tensor) -> Tensor:
        """Return ``J(pi)`` of every prompt, [prompts]. Responses of probability zero contribute nothing."""
        paid = self.rewards - self.beta * (policy - self.reference)
        return (policy.exp() * paid).masked_fill(policy == -torch.inf, 0.0).sum(-1)

    def value(self, policy: Tensor) -> float:
        """Return ``J(pi)``, the mean over the prompts."""
        return float(self.values(policy).mean())

    def best_value(self) -> float:
        """Return ``J* = beta log Z``, the mean over the prompts."""
        return float(self.beta * (self.reference + self.rewards / self.beta).logsumexp(-1).mean())

    def regret(self, policy: Tensor) -> float:
        """Return ``(J* - J) / (J* - J_ref)``: 1 for the reference, 0 for the optimum."""
        best = self.best_value()
        return (best - self.value(policy)) / (best - self.value(self.reference))


def kl(policy: Tensor, other: Tensor) -> float:
    """Return ``KL(policy || other)`` in nats, the mean over the prompts."""
    terms = policy.exp() * (policy - other)
    return float(terms.masked_fill(policy == -torch.inf, 0.0).sum(-1).mean())


def best_of_n(policy: Tensor, rewards: Tensor, n: int) -> Tensor:
    """Return the log-probabilities of the best of ``n`` independent responses, [prompts, responses].

    The best has at most reward r with probability ``F(r)^n``, F being the distribution of one response's reward.
    Responses of equal reward share their level's probability as they do under the policy.
    """
    probabilities = policy.exp()
    below = rewards[:, None, :] < rewards[:, :, None]
    level = rewards[:, None, :] == rewards[:, :, None]
    less = (probabilities[:, None, :] * below).sum(-1)
    own = (probabilities[:, None, :] * level).sum(-1)
    return (((less + own) ** n - less**n) * probabilities / own).log()
