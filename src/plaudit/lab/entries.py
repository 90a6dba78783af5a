"""The rows of the laboratory's table: an algorithm's settings, its target, and how close it must come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from plaudit.lab import targets
from plaudit.lab.exact import Exact

Family = Literal["exact", "rl", "dpo", "sampling"]

Target = Callable[[Exact], Tensor | None]
"""What an algorithm converges to on a problem; None if the problem has no such target."""


@dataclass(frozen=True)
class Entry:
    """A row. Misses are relative to the reference's distance: ``KL(pi || target) / KL(ref || target)``.

    ``overrides`` are those of the section ``rl`` or ``dpo``. ``target`` is what the algorithm converges to; if it
    is None, only the regret is reported. ``mean`` and ``worst`` bound the misses over all runs.
    ``flips`` is the fraction of rankings that are reversed.
    """

    name: str
    family: Family
    overrides: Mapping[str, Any] = field(default_factory=dict)
    target: Target | None = targets.optimum
    target_name: str = "π*"
    mean: float | None = 0.02
    worst: float | None = 0.05
    flips: float = 0.0
    beta_factor: float = 1.0
    """Factor between the problem's beta and the setting of that name."""


def _rl(name: str, **overrides: Any) -> Entry:
    return Entry(name, "rl", overrides)


def _dpo(name: str, flips: float = 0.0, beta_factor: float = 1.0, **overrides: Any) -> Entry:
    return Entry(name, "dpo", overrides, mean=0.03, worst=0.03, flips=flips, beta_factor=beta_factor)


def _towards(entry: Entry, target: Target, target_name: str = "its minimum") -> Entry:
    return replace(entry, target=target, target_name=target_name)


def _without_target(entry: Entry) -> Entry:
    """Rows without a target are reported but not bounded."""
    return replace(entry, target=None, target_name="-", mean=None, worst=None)


IN_LOSS = {"placement": "loss"}
TWICE = {"epochs": 2}
NOISY = {"prompts_per_iteration": 4, "minibatches": 2}
"""More samples and steps: for estimates whose noise does not vanish at the optimum, and for slow algorithms."""
NOISIEST = {"prompts_per_iteration": 8, "minibatches": 2, "iterations": 60}
ADAPTERS = {
    "iterations": 60,
    "weights": "adapters",
    "model": {"lora": {"rank": 16, "alpha": 32.0}},
    "optimizer": {"learning_rate": 0.005},
}
IPO_BETA = 0.25  # for close rewards, a quarter of beta makes IPO's log-ratios those of pi*
SIMPO = (2.0, 0.5)
ORPO_BETA = 1.0

ENTRIES: tuple[Entry, ...] = (
    Entry("exact gradient", "exact"),
    _rl("ppo", **TWICE),
    _rl("ppo shared", weights="shared", **TWICE),
    _rl("ppo adapters", **ADAPTERS, **TWICE),
    _rl("ppo minibatches", prompts_per_iteration=4, minibatches=2, **TWICE),
    _rl("ppo corrected", importance_correction=2.0, **TWICE),
    _rl("ppo k2", kl={"estimator": "k2"}, **TWICE, **NOISY),
    _rl("ppo k3", kl={"estimator": "k3"}, **TWICE, **NOISY),
    _rl("ppo loss-k1", kl=IN_LOSS, **TWICE, **NOISY),
    _rl("ppo loss-k2", kl=IN_LOSS | {"estimator": "k2"}, **TWICE, **NOISIEST),
    _rl("ppo loss-k3", kl=IN_LOSS | {"estimator": "k3"}, **TWICE, **NOISY),
    _rl("ppo shared loss-k1", weights="shared", kl=IN_LOSS, **TWICE, **NOISY),
    _rl("rloo", advantages="rloo", **TWICE),
    _rl("rloo loss-k1", advantages="rloo", kl=IN_LOSS, **TWICE, **NOISY),
    _rl("reinforce rloo", advantages="rloo", policy_loss="policy_gradient", **NOISY | {"iterations": 80}),
    _rl("dr_grpo", advantages="dr_grpo", aggregation="sequence_sum", **TWICE),
    _rl("grpo", advantages="grpo", **TWICE),
    _rl("reinforce++", advantages="reinforce++", **NOISY),
    _rl("reinforce++ baseline", advantages="reinforce++_baseline", **NOISY),
    _rl("remax", advantages="remax", **NOISIEST),
    _rl("gspo", advantages="rloo", policy_loss="gspo", clip=0.2, iterations=80, **TWICE, **NOISY),
    _rl(
        "online dpo",
        objective="online_dpo",
        responses_per_prompt=16,
        prompts_per_iteration=8,
        epochs=4,
    ),
    _without_target(_rl("ppo loss-k1 whitened", kl=IN_LOSS, whiten_advantages=True, **TWICE, **NOISY)),
    _towards(
        _rl("grpo loss-k3", advantages="grpo", kl=IN_LOSS | {"estimator": "k3"}, **TWICE, **NOISY),
        targets.divided_reward,
        "ref·exp(r/βs)",
    ),
    _dpo("dpo", loss="dpo"),
    _dpo("plackett-luce dpo", loss="plackett_luce"),
    _dpo("robust dpo", loss="robust_dpo", label_smoothing=0.1, flips=0.1),
    _towards(
        _dpo("cdpo", loss="cdpo", label_smoothing=0.1),
        lambda exact: targets.minimum(targets.cdpo_loss(0.1), exact),
    ),
    _towards(
        _dpo("ipo", loss="ipo", beta_factor=IPO_BETA),
        lambda exact: targets.ipo(exact, IPO_BETA * exact.beta),
        "ref·exp(P̄/β)",
    ),
    _towards(
        _dpo("simpo", loss="simpo", beta=SIMPO[0], margin=SIMPO[1], batch_size=64),
        lambda exact: targets.minimum(targets.simpo_loss(*SIMPO), exact),
    ),
    _towards(
        _dpo("orpo", loss="orpo", beta=ORPO_BETA),
        lambda exact: targets.minimum(targets.orpo_loss(ORPO_BETA), exact),
    ),
    _without_target(_dpo("kto", loss="kto")),
    _without_target(_rl("best-of-n training", objective="best_of_n", responses_per_prompt=4, prompts_per_iteration=32)),
    Entry("best of 4", "sampling", {"n": 4}, targets.best_of(4), "best of 4"),
)


def chosen(names: list[str] | None) -> list[Entry]:
    """Return the rows with the given names, or all. Raises PlauditError for an unknown name, listing the known ones."""
    from plaudit.errors import PlauditError

    known = {entry.name: entry for entry in ENTRIES}
    for name in names or ():
        if name not in known:
            raise PlauditError(f"{name or '--only'}: the laboratory has no such row; choose from: {', '.join(known)}")
    return [known[name] for name in names] if names else list(ENTRIES)
