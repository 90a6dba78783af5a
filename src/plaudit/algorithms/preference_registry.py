"""The losses of direct preference optimisation by name: equation, source, what each needs, and its own defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from plaudit.algorithms.direct_preference_losses import (
    conservative_dpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    plackett_luce_dpo_loss,
    robust_dpo_loss,
)
from plaudit.algorithms.preference_losses import PreferenceLoss
from plaudit.algorithms.reference_free_losses import log_odds, orpo_loss, per_token, simpo_loss

Settings = Mapping[str, float]


@dataclass(frozen=True)
class Sequences:
    """Responses laid flat, as the losses take them; all [responses] but ``reference_kl``.

    ``log_probabilities`` and ``reference`` are sums over a response's tokens, in nats, under policy and reference
    (None for losses without one); ``lengths`` counts the tokens; ``prompts`` tells whose response it is. ``ranks``: 0
    is best and equal ranks are ties; where labels are read, 0 is desirable and 1 is not. ``reference_kl`` is a scalar,
    see ``mismatched_kl``.
    """

    log_probabilities: Tensor
    reference: Tensor | None
    lengths: Tensor
    prompts: Tensor
    ranks: Tensor
    reference_kl: Tensor | float = 0.0

    @property
    def log_ratios(self) -> Tensor:
        """``h = log pi - log pi_ref``, [responses]."""
        assert self.reference is not None
        return self.log_probabilities - self.reference


@dataclass(frozen=True)
class PreferenceObjective:
    """An entry of ``PREFERENCE_LOSSES``.

    ``defaults`` names every setting that the loss has, with its default. ``reads`` says what the loss learns from: the
    order of a prompt's responses, or a label of each. ``loss`` sums over prompts; ``reward`` gives the implicit rewards
    [responses] whose order the loss teaches.
    """

    equation: str
    paper: str
    defaults: Settings
    loss: Callable[[Sequences, Settings], PreferenceLoss]
    reward: Callable[[Sequences, Settings], Tensor]
    needs_reference: bool = True
    reads: Literal["ranks", "labels"] = "ranks"


def _on_log_ratios(loss: Callable[..., PreferenceLoss]) -> Callable[[Sequences, Settings], PreferenceLoss]:
    return lambda of, settings: loss(of.log_ratios, of.prompts, of.ranks, **settings)


def _on_means(loss: Callable[..., PreferenceLoss]) -> Callable[[Sequences, Settings], PreferenceLoss]:
    return lambda of, settings: loss(of.log_probabilities, of.lengths, of.prompts, of.ranks, **settings)


def _on_labels(of: Sequences, settings: Settings) -> PreferenceLoss:
    return kto_loss(of.log_ratios, of.prompts, of.ranks == 0, of.reference_kl, **settings)


def _log_ratio_reward(of: Sequences, settings: Settings) -> Tensor:
    return settings["beta"] * of.log_ratios


PREFERENCE_LOSSES: dict[str, PreferenceObjective] = {
    "dpo": PreferenceObjective(
        equation="-log sigmoid(beta (h_b - h_w))",
        paper="Rafailov et al. 2023",
        defaults={"beta": 0.1},
        loss=_on_log_ratios(dpo_loss),
        reward=_log_ratio_reward,
    ),
    "cdpo": PreferenceObjective(
        equation="-(1 - e) log sigmoid(beta (h_b - h_w)) - e log sigmoid(-beta (h_b - h_w))",
        paper="Mitchell 2023",
        defaults={"beta": 0.1, "label_smoothing": 0.1},
        loss=_on_log_ratios(conservative_dpo_loss),
        reward=_log_ratio_reward,
    ),
    "robust_dpo": PreferenceObjective(
        equation="[-(1 - e) log sigmoid(beta (h_b - h_w)) + e log sigmoid(-beta (h_b - h_w))] / (1 - 2 e)",
        paper="Chowdhury et al. 2024",
        defaults={"beta": 0.1, "label_smoothing": 0.1},
        loss=_on_log_ratios(robust_dpo_loss),
        reward=_log_ratio_reward,
    ),
    "ipo": PreferenceObjective(
        equation="(h_b - h_w - 1 / (2 beta))^2",
        paper="Azar et al. 2023",
        defaults={"beta": 0.1},
        loss=_on_log_ratios(ipo_loss),
        reward=_log_ratio_reward,
    ),
    "plackett_luce": PreferenceObjective(
        equation="-sum_i [beta h_i - log (exp(beta h_i) + sum_{j ranked below i} exp(beta h_j))]",
        paper="Rafailov et al. 2023, appendix A.3",
        defaults={"beta": 0.1},
        loss=_on_log_ratios(plackett_luce_dpo_loss),
        reward=_log_ratio_reward,
    ),
    "kto": PreferenceObjective(
        equation="w_D (1 - sigmoid(beta (h - z))) if desirable, else w_U (1 - sigmoid(beta (z - h)))",
        paper="Ethayarajh et al. 2024",
        defaults={"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        loss=_on_labels,
        reward=_log_ratio_reward,
        reads="labels",
    ),
    "simpo": PreferenceObjective(
        equation="-log sigmoid(beta l_b - beta l_w - margin)",
        paper="Meng et al. 2024",
        defaults={"beta": 2.0, "margin": 1.0},
        loss=_on_means(simpo_loss),
        reward=lambda of, s: s["beta"] * per_token(of.log_probabilities, of.lengths),
        needs_reference=False,
    ),
    "orpo": PreferenceObjective(
        equation="-l_b - beta log sigmoid(log odds_b - log odds_w)",
        paper="Hong et al. 2024",
        defaults={"beta": 0.1},
        loss=_on_means(orpo_loss),
        reward=lambda of, s: s["beta"] * log_odds(per_token(of.log_probabilities, of.lengths)),
        needs_reference=False,
    ),
}
"""Every loss of the stage ``dpo``: with h the log-ratio to the reference and l the mean log-probability of a token."""
