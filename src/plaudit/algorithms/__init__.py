"""Pure functions on tensors, one per equation."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.algorithms.advantages import gae, grpo, remax, returns_to_go, rloo
    from plaudit.algorithms.direct_preference_losses import (
        conservative_dpo_loss,
        dpo_loss,
        ipo_loss,
        kto_loss,
        plackett_luce_dpo_loss,
        robust_dpo_loss,
    )
    from plaudit.algorithms.interface import (
        LossOutputs,
        Maximum,
        Mean,
        PolicyInputs,
        PreferenceInputs,
        RewardInputs,
    )
    from plaudit.algorithms.kl import k1, k2, k3, kl_loss, sequence_kl
    from plaudit.algorithms.kl_controllers import AdaptiveKl, FixedKl
    from plaudit.algorithms.language_modeling import language_modeling_loss
    from plaudit.algorithms.policy_losses import gspo_loss, policy_gradient_loss, ppo_loss
    from plaudit.algorithms.preference_losses import best_of_k_loss, pairwise_ranking_loss
    from plaudit.algorithms.reference_free_losses import orpo_loss, simpo_loss
    from plaudit.algorithms.value_losses import clipped_value_loss

__all__ = [
    "AdaptiveKl",
    "FixedKl",
    "LossOutputs",
    "Maximum",
    "Mean",
    "PolicyInputs",
    "PreferenceInputs",
    "RewardInputs",
    "best_of_k_loss",
    "clipped_value_loss",
    "conservative_dpo_loss",
    "dpo_loss",
    "gae",
    "grpo",
    "gspo_loss",
    "ipo_loss",
    "k1",
    "k2",
    "k3",
    "kl_loss",
    "kto_loss",
    "language_modeling_loss",
    "orpo_loss",
    "pairwise_ranking_loss",
    "plackett_luce_dpo_loss",
    "policy_gradient_loss",
    "ppo_loss",
    "remax",
    "returns_to_go",
    "rloo",
    "robust_dpo_loss",
    "sequence_kl",
    "simpo_loss",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "advantages": ["gae", "grpo", "remax", "returns_to_go", "rloo"],
        "direct_preference_losses": [
            "conservative_dpo_loss",
            "dpo_loss",
            "ipo_loss",
            "kto_loss",
            "plackett_luce_dpo_loss",
            "robust_dpo_loss",
        ],
        "interface": ["LossOutputs", "Maximum", "Mean", "PolicyInputs", "PreferenceInputs", "RewardInputs"],
        "kl": ["k1", "k2", "k3", "kl_loss", "sequence_kl"],
        "kl_controllers": ["AdaptiveKl", "FixedKl"],
        "language_modeling": ["language_modeling_loss"],
        "policy_losses": ["gspo_loss", "policy_gradient_loss", "ppo_loss"],
        "preference_losses": ["best_of_k_loss", "pairwise_ranking_loss"],
        "reference_free_losses": ["orpo_loss", "simpo_loss"],
        "value_losses": ["clipped_value_loss"],
    },
)
