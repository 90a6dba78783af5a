"""The rows of the laboratory's table: an algorithm's settings, what it converges to, and how near it must come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from plaudit.lab import targets
from plaudit.lab.exact import Exact

Family = Literal["exact", "rl", "dpo", "sampling"]


@dataclass(frozen=True)
class Entry:
    """A row. Misses are shares of the reference's own distance: ``KL(pi || target) / KL(ref || target)``.

    ``overrides`` are those of the section ``rl`` or ``dpo``. ``target`` is what the algorithm converges to; None where
    there is nothing, and then only the regret is reported. ``mean`` and ``worst`` bound the misses over all runs.
    ``group`` is the number of ranked responses to a prompt, ``flips`` the share of choices that are turned round.
    """

    name: str
    family: Family
    overrides: Mapping[str, Any] = field(default_factory=dict)
    target: Callable[[Exact], Tensor] | None = targets.optimum
    target_name: str = "π*"
    mean: float | None = 0.02
    worst: float | None = 0.05
    group: int = 16
    flips: float = 0.0
    beta: float = 1.0
    """Factor between the problem's beta and the setting of that name."""


def _rl(name: str, **overrides: Any) -> Entry:
    return Entry(name, "rl", overrides)


def _dpo(name: str, loss: str, **settings: Any) -> Entry:
    options: dict[str, Any] = {key: settings.pop(key) for key in ("label_smoothing", "margin") if key in settings}
    return Entry(name, "dpo", {"loss": loss, **options}, mean=0.03, worst=0.03, **settings)


def _without_target(entry: Entry) -> Entry:
    """What has nothing to converge to is reported, and bounded by nothing."""
    return replace(entry, target=None, target_name="-", mean=None, worst=None)


IN_LOSS = {"placement": "loss"}
TWICE = {"epochs": 2}
NOISY = {"responses_per_prompt": 128, "optimizer": {"learning_rate": 0.002}}
"""For estimates whose noise does not vanish at the optimum."""
LONGER = {"iterations": 100}
"""For rows that are still on their way after the usual rounds, on the problem where the optimum is furthest."""
ADAPTERS = {
    "iterations": 140,
    "weights": "adapters",
    "model": {"lora": {"rank": 16, "alpha": 32.0}},
    "optimizer": {"learning_rate": 0.01},
}
IPO_BETA = 0.25  # for close rewards, a quarter of beta makes IPO's log-ratios those of pi*
SIMPO = (2.0, 0.5)
ORPO_BETA = 1.0

ENTRIES: tuple[Entry, ...] = (
    Entry("exact gradient", "exact"),
    _rl("ppo", **TWICE),
    _rl("ppo shared", weights="shared", **TWICE),
    _rl("ppo adapters", **ADAPTERS, **TWICE),
    _rl("ppo k3", kl={"estimator": "k3"}, responses_per_prompt=128, **LONGER, **TWICE),
    _rl("ppo loss-k1", kl=IN_LOSS, **TWICE, **NOISY),
    _rl("ppo loss-k3", kl=IN_LOSS | {"estimator": "k3"}, **TWICE, **NOISY),
    _rl("rloo", advantages="rloo", **TWICE),
    _rl("rloo loss-k1", advantages="rloo", kl=IN_LOSS, **TWICE, **NOISY),
    _rl("reinforce rloo", advantages="rloo", policy_loss="policy_gradient"),
    _rl("dr_grpo", advantages="dr_grpo", aggregation="sequence_sum", **TWICE),
    _rl("grpo", advantages="grpo", **TWICE),
    _rl("reinforce++", advantages="reinforce++"),
    _rl("reinforce++ baseline", advantages="reinforce++_baseline"),
    _rl("remax", advantages="remax", **NOISY),
    _rl("gspo", advantages="rloo", policy_loss="gspo", clip=0.2, **LONGER, **TWICE),
    _rl(
        "online dpo",
        objective="online_dpo",
        responses_per_prompt=16,
        prompts_per_iteration=8,
        optimizer={"learning_rate": 0.005},
        **LONGER,
    ),
    _without_target(_rl("ppo loss-k1 whitened", kl=IN_LOSS, whiten_advantages=True, **TWICE, **NOISY)),
    _without_target(_rl("grpo loss-k3", advantages="grpo", kl=IN_LOSS | {"estimator": "k3"}, **TWICE)),
    _dpo("dpo", "dpo"),
    _dpo("plackett-luce dpo", "plackett_luce"),
    _dpo("robust dpo", "robust_dpo", label_smoothing=0.1, flips=0.1),
    _dpo(
        "cdpo",
        "cdpo",
        label_smoothing=0.1,
        target=lambda exact: targets.minimum(targets.cdpo_loss(0.1), exact),
        target_name="its minimum",
    ),
    _dpo(
        "ipo",
        "ipo",
        beta=IPO_BETA,
        target=lambda exact: targets.ipo(exact, IPO_BETA * exact.beta),
        target_name="ref·exp(P̄/β)",
    ),
    Entry(
        "simpo",
        "dpo",
        {"loss": "simpo", "beta": SIMPO[0], "margin": SIMPO[1]},
        lambda exact: targets.minimum(targets.simpo_loss(*SIMPO), exact),
        "its minimum",
        None,
        None,
    ),
    Entry(
        "orpo",
        "dpo",
        {"loss": "orpo", "beta": ORPO_BETA},
        lambda exact: targets.minimum(targets.orpo_loss(ORPO_BETA), exact),
        "its minimum",
        None,
        None,
    ),
    _without_target(_dpo("kto", "kto", group=1)),
    _without_target(_rl("best-of-n training", objective="best_of_n", responses_per_prompt=4, prompts_per_iteration=32)),
    Entry("best of 4", "sampling", {"n": 4}, targets.best_of(4), "best of 4"),
)


def chosen(names: list[str] | None) -> list[Entry]:
    """Return the rows of the given names, or all. Raises PlauditError with the list for a name that is none."""
    from plaudit.errors import PlauditError

    known = {entry.name: entry for entry in ENTRIES}
    for name in names or ():
        if name not in known:
            raise PlauditError(f"{name}: no row of the laboratory; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(ENTRIES)
