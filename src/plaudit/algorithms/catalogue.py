"""Every advantage estimator and loss by name: equation, paper, what it needs, and the defaults of its paper.

Configuration and training both read these entries. This module imports nothing heavy: an entry names its function as
``module:name``. A plugin adds an entry to one of the catalogues. If a configuration names a loss as
``module:function``, the functions at the end of this module return an entry for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum"]


@dataclass(frozen=True)
class Entry:
    """``function``: where to import the function from, as ``module:name``."""

    equation: str
    paper: str
    function: str


AnyEntry = TypeVar("AnyEntry", bound=Entry)


class Catalogue(dict[str, AnyEntry]):
    """Entries by name. A name cannot be given to another entry, so a plugin never replaces a loss unnoticed."""

    def __setitem__(self, name: str, entry: AnyEntry) -> None:
        """Add an entry. Raises ValueError if the name belongs to another entry."""
        if self.get(name, entry) != entry:
            raise ValueError(f"{name} is already in the catalogue; choose another name")
        super().__setitem__(name, entry)


@dataclass(frozen=True)
class AdvantageEntry(Entry):
    """An estimator: a function of ``AdvantageInputs`` that returns ``Advantages``, see ``estimators``.

    ``uses_values``: needs a value function. ``compares``: compares the responses to one prompt, so there must be at
    least two. ``uses_greedy``: needs the score of a greedy response to each prompt. ``discounts``: the discount gamma
    has an effect. ``whitens``: advantages are whitened over all tokens of an iteration unless the configuration says
    otherwise.
    """

    uses_values: bool = False
    compares: bool = False
    uses_greedy: bool = False
    discounts: bool = False
    whitens: bool = False


@dataclass(frozen=True)
class PolicyLossEntry(Entry):
    """A loss of the policy: a function of ``PolicyInputs`` that returns ``LossOutputs``, see ``interface``.

    ``aggregation``: how token losses are weighted, unless the configuration says otherwise. ``clip_low`` and
    ``clip_high``: the ratio is clipped to [1 - low, 1 + high]; None for a loss without clipping.
    """

    aggregation: Aggregation = "token_mean"
    clip_low: float | None = None
    clip_high: float | None = None

    @property
    def clips(self) -> bool:
        """Whether the loss clips the ratio."""
        return self.clip_low is not None


@dataclass(frozen=True)
class PreferenceLossEntry(Entry):
    """A loss of the stage ``dpo``: a function of ``PreferenceInputs`` that returns ``LossOutputs``, see ``interface``.

    ``defaults``: every setting of the loss with its default. ``reads``: whether the loss learns from the ranking of a
    prompt's responses or from a label on each response. ``reward``: the function that computes the implicit rewards
    [responses].
    """

    defaults: Mapping[str, float] = field(default_factory=dict)
    reward: str = "plaudit.algorithms.objectives:log_ratio_reward"
    needs_reference: bool = True
    reads: Literal["ranks", "labels"] = "ranks"


@dataclass(frozen=True)
class RewardLossEntry(Entry):
    """A loss of a reward model: a function of ``RewardInputs`` that returns ``LossOutputs``, see ``interface``.

    ``defaults``: every setting of the loss with its default.
    """

    defaults: Mapping[str, float] = field(default_factory=dict)


_ESTIMATORS, _OBJECTIVES = "plaudit.algorithms.estimators", "plaudit.algorithms.objectives"

ADVANTAGES: Catalogue[AdvantageEntry] = Catalogue(
    {
        "gae": AdvantageEntry(
            "A_t = sum_{l >= 0} (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V_{t+1} - V_t",
            "Schulman et al. 2015, arXiv:1506.02438",
            f"{_ESTIMATORS}:gae_estimate",
            uses_values=True,
            discounts=True,
            whitens=True,
        ),
        "rloo": AdvantageEntry(
            "A_i = r_i - mean_{j != i} r_j",
            "Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740",
            f"{_ESTIMATORS}:rloo_estimate",
            compares=True,
        ),
        "grpo": AdvantageEntry(
            "A_i = (r_i - mean r) / std r",
            "Shao et al. 2024, arXiv:2402.03300",
            f"{_ESTIMATORS}:grpo_estimate",
            compares=True,
        ),
        "dr_grpo": AdvantageEntry(
            "A_i = r_i - mean r",
            "Liu et al. 2025, arXiv:2503.20783",
            f"{_ESTIMATORS}:group_centered_estimate",
            compares=True,
        ),
        "reinforce++": AdvantageEntry(
            "A_t = whitened over the iteration: sum_{s >= t} gamma^{s-t} r_s",
            "Hu et al. 2025, arXiv:2501.03262",
            f"{_ESTIMATORS}:returns_estimate",
            discounts=True,
            whitens=True,
        ),
        "reinforce++_baseline": AdvantageEntry(
            "A_i = whitened over the iteration: r_i - mean r of its group",
            "Hu et al. 2025, arXiv:2501.03262",
            f"{_ESTIMATORS}:group_centered_estimate",
            compares=True,
            whitens=True,
        ),
        "remax": AdvantageEntry(
            "A_i = r_i - r(greedy response)",
            "Li et al. 2023, arXiv:2310.10505",
            f"{_ESTIMATORS}:remax_estimate",
            uses_greedy=True,
        ),
    }
)

POLICY_LOSSES: Catalogue[PolicyLossEntry] = Catalogue(
    {
        "ppo": PolicyLossEntry(
            "-min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t)",
            "Schulman et al. 2017, arXiv:1707.06347",
            f"{_OBJECTIVES}:ppo",
            clip_low=0.2,
            clip_high=0.2,
        ),
        "gspo": PolicyLossEntry(
            "-min(s A, clip(s, 1 - low, 1 + high) A),  s = exp(mean_t log rho_t)",
            "Zheng et al. 2025, arXiv:2507.18071",
            f"{_OBJECTIVES}:gspo",
            aggregation="sequence_mean",
            clip_low=3e-4,
            clip_high=4e-4,
        ),
        "policy_gradient": PolicyLossEntry(
            "-A_t log pi(y_t)", "Williams 1992, doi:10.1007/BF00992696", f"{_OBJECTIVES}:policy_gradient"
        ),
    }
)

PREFERENCE_LOSSES: Catalogue[PreferenceLossEntry] = Catalogue(
    {
        "dpo": PreferenceLossEntry(
            "-log sigmoid(beta (h_b - h_w))",
            "Rafailov et al. 2023",
            f"{_OBJECTIVES}:dpo",
            {"beta": 0.1},
        ),
        "cdpo": PreferenceLossEntry(
            "-(1 - e) log sigmoid(beta (h_b - h_w)) - e log sigmoid(-beta (h_b - h_w))",
            "Mitchell 2023",
            f"{_OBJECTIVES}:cdpo",
            {"beta": 0.1, "label_smoothing": 0.1},
        ),
        "robust_dpo": PreferenceLossEntry(
            "[-(1 - e) log sigmoid(beta (h_b - h_w)) + e log sigmoid(-beta (h_b - h_w))] / (1 - 2 e)",
            "Chowdhury et al. 2024",
            f"{_OBJECTIVES}:robust_dpo",
            {"beta": 0.1, "label_smoothing": 0.1},
        ),
        "ipo": PreferenceLossEntry(
            "(h_b - h_w - 1 / (2 beta))^2", "Azar et al. 2023", f"{_OBJECTIVES}:ipo", {"beta": 0.1}
        ),
        "plackett_luce": PreferenceLossEntry(
            "-sum_i [beta h_i - log (exp(beta h_i) + sum_{j ranked below i} exp(beta h_j))]",
            "Rafailov et al. 2023, appendix A.3",
            f"{_OBJECTIVES}:plackett_luce",
            {"beta": 0.1},
        ),
        "kto": PreferenceLossEntry(
            "w_D (1 - sigmoid(beta (h - z))) if desirable, else w_U (1 - sigmoid(beta (z - h)))",
            "Ethayarajh et al. 2024",
            f"{_OBJECTIVES}:kto",
            {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
            reads="labels",
        ),
        "simpo": PreferenceLossEntry(
            "-log sigmoid(beta l_b - beta l_w - margin)",
            "Meng et al. 2024",
            f"{_OBJECTIVES}:simpo",
            {"beta": 2.0, "margin": 1.0},
            reward=f"{_OBJECTIVES}:mean_reward",
            needs_reference=False,
        ),
        "orpo": PreferenceLossEntry(
            "-l_b - beta log sigmoid(log odds_b - log odds_w)",
            "Hong et al. 2024",
            f"{_OBJECTIVES}:orpo",
            {"beta": 0.1},
            reward=f"{_OBJECTIVES}:odds_reward",
            needs_reference=False,
        ),
    }
)
"""With h the log-ratio to the reference and l the mean log-probability of a token."""

REWARD_LOSSES: Catalogue[RewardLossEntry] = Catalogue(
    {
        "pairwise": RewardLossEntry(
            "-log sigmoid(s_b - s_w - margin (k_w - k_b))",
            "Ouyang et al. 2022; margin: Touvron et al. 2023",
            f"{_OBJECTIVES}:pairwise",
            {"margin": 0.0},
        ),
        "best_of_k": RewardLossEntry("-log softmax(s)_b", "Ziegler et al. 2019", f"{_OBJECTIVES}:best_of_k"),
    }
)
"""With s the scores and k the ranks of a prompt's responses, b the better (best) and w the worse one."""


# User-defined functions ----------------------------------------------------------------------------------------------


def advantage(name: str) -> AdvantageEntry:
    """Return the entry with this name; for ``module:function`` a new one that needs only rewards."""
    return ADVANTAGES[name] if ":" not in name else AdvantageEntry("", "", name, discounts=True)


def policy_loss(name: str) -> PolicyLossEntry:
    """Return the entry with this name; for ``module:function`` a new one with the aggregation and clip of PPO."""
    if ":" not in name:
        return POLICY_LOSSES[name]
    return PolicyLossEntry("", "", name, clip_low=0.2, clip_high=0.2)


def preference_loss(name: str) -> PreferenceLossEntry:
    """Return the entry with this name; for ``module:function`` a new one that reads ranks and needs a reference."""
    if ":" not in name:
        return PREFERENCE_LOSSES[name]
    return PreferenceLossEntry("", "", name, {"beta": 0.1, "label_smoothing": 0.0, "margin": 0.0})


def reward_loss(name: str) -> RewardLossEntry:
    """Return the entry with this name; for ``module:function`` a new one."""
    return REWARD_LOSSES[name] if ":" not in name else RewardLossEntry("", "", name, {"margin": 0.0})
