"""The loss and the accuracy of supervised fine-tuning and pre-training."""

from torch import Tensor

from plaudit.algorithms.masking import masked_sum


def language_modeling_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return ``-sum_t m_t log p(y_t | y_<t)`` as a scalar, in nats; the unit is the real token.

    ``log_probs`` of the target tokens and ``mask`` have one shape, such as [responses, time]. ``exp`` of the loss per
    token is the perplexity.
    """
    return -masked_sum(log_probs, mask)


def likeliest_is_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Return, for each token, whether ``logits_y = max_v logits_v``; its mean is the token accuracy. A tie counts.

    ``logits`` [tokens, vocabulary], ``targets`` [tokens]; result bool [tokens].
    """
    return logits.gather(-1, targets[:, None]).squeeze(-1) == logits.amax(dim=-1)
