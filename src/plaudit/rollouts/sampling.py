"""Samples tokens: one uniform number per token, mapped to a token by the inverse of the cumulative distribution.

The number comes from a generator of the request, so samples do not depend on the other requests in the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.rollouts.samples import Request
from plaudit.seeding import torch_generator

BLOCK = 64  # tokens; about the square root of common vocabulary sizes


def draw_uniforms(requests: Sequence[Request], tokens: int) -> Tensor:
    """Return uniform numbers in (0, 1], [requests, tokens]; a row depends only on its request's seed."""
    rows = [torch.rand(tokens, generator=torch_generator(request.seed, "tokens")) for request in requests]
    return 1 - torch.stack(rows)


def draw_limits(requests: Sequence[Request], settings: GenerationConfig) -> list[int]:
    """Return the maximum length of each response in tokens; random lengths are drawn from the request's seed."""
    if not settings.random_length:
        return [settings.max_new_tokens] * len(requests)
    shortest, longest = max(1, settings.min_new_tokens), settings.max_new_tokens
    generators = (torch_generator(request.seed, "length") for request in requests)
    return [int(torch.randint(shortest, longest + 1, (), generator=generator)) for generator in generators]


class Choice(NamedTuple):
    """The tokens chosen in each row; all tensors are [rows].

    ``log_probabilities`` (float32) are those under softmax(logits / temperature) over the whole vocabulary, which
    training recomputes. ``log_kept_mass`` is the logarithm of the probability mass that sampling was restricted to:
    zero, or negative if tokens were forbidden or cut off by top_k or top_p. The token was therefore sampled with the
    log-probability ``log_probabilities - log_kept_mass``.
    """

    tokens: Tensor
    log_probabilities: Tensor
    log_kept_mass: Tensor


def choose_tokens(
    logits: Tensor, uniforms: Tensor, settings: GenerationConfig, forbidden: Tensor | None = None
) -> Choice:
    """Choose a token in each row.

    Args:
        logits: [rows, vocabulary]. uniforms: [rows] in (0, 1]; unused at temperature 0, which takes the most likely
        token. Log-probabilities are then
            those of temperature 1, and ``log_kept_mass`` is zero.
        settings: temperature, top_k, top_p.
        forbidden: [ids] tokens that must not be chosen.
    """
    scaled = logits.float() / (settings.temperature or 1.0)
    allowed = scaled if forbidden is None else scaled.index_fill(1, forbidden, float("-inf"))
    if settings.temperature and not settings.top_k and settings.top_p == 1:
        return _among_all(scaled, allowed, uniforms, forbidden)
    whole = scaled.logsumexp(-1)
    log_kept_mass = torch.zeros_like(whole)
    if settings.temperature == 0:
        tokens = allowed.argmax(-1)
    else:
        tokens, kept = _among_the_likeliest(allowed, uniforms, settings)
        log_kept_mass = kept - whole
    return Choice(tokens, _at(scaled, tokens) - whole, log_kept_mass)


def _among_all(scaled: Tensor, allowed: Tensor, uniforms: Tensor, forbidden: Tensor | None) -> Choice:
    """Sample from all allowed tokens: first a block of the vocabulary, then a token of that block.

    The sums of the blocks also give the sum over the vocabulary. So every logit is exponentiated only once, and no
    cumulative sum is longer than a block or the list of blocks.
    """
    rows, vocabulary = allowed.shape
    blocks = -(-vocabulary // BLOCK)
    largest = allowed.amax(-1, keepdim=True)
    weights = allowed.new_zeros(rows, blocks * BLOCK)
    torch.sub(allowed, largest, out=weights[:, :vocabulary]).exp_()
    weights = weights.view(rows, blocks, BLOCK)
    cumulative = weights.sum(-1).cumsum(-1)
    targets = uniforms * cumulative[:, -1]
    block = _invert(cumulative, targets)
    before = torch.where(block > 0, _at(cumulative, (block - 1).clamp(min=0)), 0.0)
    within = weights[torch.arange(rows, device=block.device), block].cumsum(-1)
    # Rounding may put the rest of the target above the block's sum; then choose the block's last token.
    tokens = block * BLOCK + _invert(within, torch.minimum(targets - before, within[:, -1]))
    kept = largest[:, 0] + cumulative[:, -1].log()
    whole = kept if forbidden is None else torch.cat([kept[:, None], scaled[:, forbidden]], 1).logsumexp(-1)
    return Choice(tokens.clamp_(max=vocabulary - 1), _at(scaled, tokens) - whole, kept - whole)


def _at(rows: Tensor, indices: Tensor) -> Tensor:
    """Return ``rows[i, indices[i]]`` for every row i, [rows]."""
    return rows.gather(1, indices[:, None])[:, 0]


def _among_the_likeliest(scaled: Tensor, uniforms: Tensor, settings: GenerationConfig) -> tuple[Tensor, Tensor]:
    """Sample from the top_k most likely tokens, restricted to the smallest set with at least the probability top_p.

    Returns the tokens and the log-sum-exp of the logits in that set, [rows] each.
    """
    count = min(settings.top_k or scaled.shape[1], scaled.shape[1])
    sorted_logits, ids = scaled.topk(count, dim=-1)
    cumulative = sorted_logits.softmax(-1).cumsum(-1)
    last = _invert(cumulative, settings.top_p * cumulative[:, -1])
    kept = _at(cumulative, last)
    tokens = _at(ids, _invert(cumulative, uniforms * kept))
    return tokens, kept.log() + sorted_logits.logsumexp(-1)


def _invert(cumulative: Tensor, targets: Tensor) -> Tensor:
    """Return the first index in each row whose cumulative probability reaches the target.

    A target above 0 never selects a token of probability 0. The clamp matters only for rows that are not finite.
    """
    indices = torch.searchsorted(cumulative, targets[:, None].contiguous())[:, 0]
    return indices.clamp_(max=cumulative.shape[1] - 1)
