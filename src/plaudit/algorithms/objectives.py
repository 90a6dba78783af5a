"""The losses of the catalogue: each takes the inputs of its family (see ``interface``) and calls its equation."""

from collections.abc import Callable

from torch import Tensor

from plaudit.algorithms.direct_preference_losses import (
    conservative_dpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    plackett_luce_dpo_loss,
    robust_dpo_loss,
)
from plaudit.algorithms.interface import LossOutputs, Maximum, Mean, PolicyInputs, PreferenceInputs, RewardInputs
from plaudit.algorithms.policy_losses import PolicyLoss, gspo_loss, policy_gradient_loss, ppo_loss
from plaudit.algorithms.preference_losses import PreferenceLoss, best_of_k_loss, pairwise_ranking_loss
from plaudit.algorithms.reference_free_losses import log_odds, orpo_loss, per_token, simpo_loss

# The policy -----------------------------------------------------------------------------------------------------------


def ppo(inputs: PolicyInputs) -> LossOutputs:
    """See ``ppo_loss``."""
    return _policy(ppo_loss, inputs)


def gspo(inputs: PolicyInputs) -> LossOutputs:
    """See ``gspo_loss``."""
    return _policy(gspo_loss, inputs)


def policy_gradient(inputs: PolicyInputs) -> LossOutputs:
    """See ``policy_gradient_loss``."""
    return _policy(policy_gradient_loss, inputs)


def _policy(loss: Callable[..., PolicyLoss], inputs: PolicyInputs) -> LossOutputs:
    found = loss(
        inputs.log_probabilities,
        inputs.old_log_probabilities,
        inputs.advantages,
        inputs.weights,
        inputs.mask,
        inputs.clip,
    )
    tokens = inputs.mask.sum()
    return LossOutputs(
        found.loss,
        {
            "clip_fraction": Mean(found.clipped, tokens),
            "approximate_kl": Mean(found.approximate_kl, tokens),
            "ratio/max": Maximum(found.ratio_max),
        },
    )


# The stage dpo --------------------------------------------------------------------------------------------------------


def dpo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``dpo_loss``."""
    return _on_log_ratios(dpo_loss, inputs)


def cdpo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``conservative_dpo_loss``."""
    return _on_log_ratios(conservative_dpo_loss, inputs)


def robust_dpo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``robust_dpo_loss``."""
    return _on_log_ratios(robust_dpo_loss, inputs)


def ipo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``ipo_loss``."""
    return _on_log_ratios(ipo_loss, inputs)


def plackett_luce(inputs: PreferenceInputs) -> LossOutputs:
    """See ``plackett_luce_dpo_loss``."""
    return _on_log_ratios(plackett_luce_dpo_loss, inputs)


def kto(inputs: PreferenceInputs) -> LossOutputs:
    """See ``kto_loss``."""
    desirable = inputs.ranks == 0
    return LossOutputs(
        kto_loss(inputs.log_ratios, inputs.prompts, desirable, inputs.reference_kl, **inputs.settings).loss
    )


def simpo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``simpo_loss``."""
    return _on_log_probabilities(simpo_loss, inputs)


def orpo(inputs: PreferenceInputs) -> LossOutputs:
    """See ``orpo_loss``."""
    return _on_log_probabilities(orpo_loss, inputs)


def _on_log_ratios(loss: Callable[..., PreferenceLoss], inputs: PreferenceInputs) -> LossOutputs:
    return LossOutputs(
        loss(inputs.log_ratios, inputs.prompts, inputs.ranks, **inputs.settings, pairs=inputs.pairs).loss
    )


def _on_log_probabilities(loss: Callable[..., PreferenceLoss], inputs: PreferenceInputs) -> LossOutputs:
    found = loss(
        inputs.log_probabilities,
        inputs.lengths,
        inputs.prompts,
        inputs.ranks,
        **inputs.settings,
        pairs=inputs.pairs,
    )
    return LossOutputs(found.loss)


def log_ratio_reward(inputs: PreferenceInputs) -> Tensor:
    """Return the implicit rewards ``beta h``, [responses]."""
    return inputs.settings["beta"] * inputs.log_ratios


def mean_reward(inputs: PreferenceInputs) -> Tensor:
    """Return the implicit rewards ``beta l`` of SimPO, [responses]."""
    return inputs.settings["beta"] * per_token(inputs.log_probabilities, inputs.lengths)


def odds_reward(inputs: PreferenceInputs) -> Tensor:
    """Return the implicit rewards ``beta log odds`` of ORPO, [responses]."""
    return inputs.settings["beta"] * log_odds(per_token(inputs.log_probabilities, inputs.lengths))


# Reward models --------------------------------------------------------------------------------------------------------


def pairwise(inputs: RewardInputs) -> LossOutputs:
    """See ``pairwise_ranking_loss``."""
    found = pairwise_ranking_loss(
        inputs.scores, inputs.prompts, inputs.ranks, inputs.settings["margin"], pairs=inputs.pairs
    )
    return LossOutputs(found.loss)


def best_of_k(inputs: RewardInputs) -> LossOutputs:
    """See ``best_of_k_loss``."""
    return LossOutputs(best_of_k_loss(inputs.scores, inputs.prompts, inputs.ranks).loss)
