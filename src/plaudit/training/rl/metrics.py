"""Metrics of an iteration's rollouts, before training on them."""

from torch import Tensor

from plaudit.algorithms.kl import k1, k3, sequence_kl
from plaudit.algorithms.masking import masked_mean
from plaudit.training.rl.experience import Experience
from plaudit.training.rl.scoring import ScoredGroups


def rollout_metrics(scored: ScoredGroups) -> dict[str, float]:
    """Return mean and standard deviation of the raw scores, the mean length, and the fraction of ended responses."""
    samples = scored.samples
    metrics = {
        "reward/mean": scored.total.mean(),
        "reward/std": scored.total.std(unbiased=False),
        **{f"reward/{name}": scores.mean() for name, scores in scored.each.items()},
    }
    return {
        **{name: float(value) for name, value in metrics.items()},
        "response_length": sum(sample.length for sample in samples) / len(samples),
        "ended_fraction": sum(sample.ended for sample in samples) / len(samples),
    }


def limited_fraction(experience: Experience, limit: float) -> float:
    """Return the fraction of tokens whose importance weight is ``limit``: the largest, or zero for dropped ones."""
    return float((experience.rows.importance == limit)[experience.mask].float().mean())


def policy_metrics(old: Tensor, entropies: Tensor, experience: Experience) -> dict[str, float]:
    """Return the KL of the sampling policy to the reference, its entropy, and how well sampling and training agree.

    ``old`` [R, T] are its log-probabilities, ``entropies`` [R, T] those of its next-token distributions, in nats.
    """
    rows, mask = experience.rows, experience.mask
    per_sequence = sequence_kl(k1(old, rows.reference), mask)
    gap = (old - rows.sampled)[mask]
    metrics = {
        "kl": per_sequence.mean(),
        "kl_error": per_sequence.std() / len(per_sequence) ** 0.5,
        "entropy": masked_mean(entropies, mask),
        "rollout_gap": gap.abs().max(),
        "rollout_ratio": gap.exp().mean(),
        "rollout_kl": k3(rows.sampled, old)[mask].mean(),
    }
    return {name: float(value) for name, value in metrics.items()}
