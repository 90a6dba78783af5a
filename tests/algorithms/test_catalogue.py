"""What each entry of the catalogue needs, and the defaults of its paper."""

import pytest

from plaudit.algorithms.catalogue import (
    ADVANTAGES,
    POLICY_LOSSES,
    PREFERENCE_LOSSES,
    REWARD_LOSSES,
    AdvantageEntry,
    Catalogue,
    Entry,
    PolicyLossEntry,
    PreferenceLossEntry,
    RewardLossEntry,
    policy_loss,
    preference_loss,
    reward_loss,
)

FLAGS = ("uses_values", "compares", "uses_greedy", "discounts", "whitens")


def flags(entry: AdvantageEntry) -> set[str]:
    return {flag for flag in FLAGS if getattr(entry, flag)}


def test_needs_of_the_advantage_estimators() -> None:
    assert {name: flags(entry) for name, entry in ADVANTAGES.items()} == {
        "gae": {"uses_values", "discounts", "whitens"},
        "rloo": {"compares"},
        "grpo": {"compares"},
        "dr_grpo": {"compares"},
        "reinforce++": {"discounts", "whitens"},
        "reinforce++_baseline": {"compares", "whitens"},
        "remax": {"uses_greedy"},
    }
    assert flags(AdvantageEntry("", "", "own:estimator")) == set()


def test_defaults_of_the_policy_losses() -> None:
    found = {name: (loss.aggregation, loss.clip_low, loss.clip_high) for name, loss in POLICY_LOSSES.items()}
    assert found == {
        "ppo": ("token_mean", 0.2, 0.2),
        "gspo": ("sequence_mean", 0.0003, 0.0004),
        "policy_gradient": ("token_mean", None, None),
    }
    assert {name for name, loss in POLICY_LOSSES.items() if loss.clips} == {"ppo", "gspo"}


def test_defaults_of_the_preference_losses() -> None:
    assert {name: dict(loss.defaults) for name, loss in PREFERENCE_LOSSES.items()} == {
        "dpo": {"beta": 0.1},
        "cdpo": {"beta": 0.1, "label_smoothing": 0.1},
        "robust_dpo": {"beta": 0.1, "label_smoothing": 0.1},
        "ipo": {"beta": 0.1},
        "plackett_luce": {"beta": 0.1},
        "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        "simpo": {"beta": 2.0, "margin": 1.0},
        "orpo": {"beta": 0.1},
    }
    assert {name for name, loss in PREFERENCE_LOSSES.items() if not loss.needs_reference} == {"simpo", "orpo"}
    assert {name for name, loss in PREFERENCE_LOSSES.items() if loss.reads == "labels"} == {"kto"}


def test_defaults_of_the_reward_losses() -> None:
    found = {name: dict(loss.defaults) for name, loss in REWARD_LOSSES.items()}
    assert found == {"pairwise": {"margin": 0.0}, "best_of_k": {}}


def test_a_loss_is_never_replaced_unnoticed() -> None:
    with pytest.raises(ValueError, match="ppo is already in the catalogue"):
        POLICY_LOSSES["ppo"] = PolicyLossEntry("", "", "mine:loss")
    POLICY_LOSSES["ppo"] = POLICY_LOSSES["ppo"]
    assert POLICY_LOSSES["ppo"].function == "plaudit.algorithms.objectives:ppo"


def test_names_are_looked_up_and_functions_get_an_entry() -> None:
    assert policy_loss("gspo") is POLICY_LOSSES["gspo"]
    assert preference_loss("kto") is PREFERENCE_LOSSES["kto"]
    assert reward_loss("best_of_k") is REWARD_LOSSES["best_of_k"]
    assert policy_loss("mine:loss") == PolicyLossEntry("", "", "mine:loss", "token_mean", 0.2, 0.2)
    assert preference_loss("mine:loss") == PreferenceLossEntry(
        "",
        "",
        "mine:loss",
        {"beta": 0.1, "label_smoothing": 0.0, "margin": 0.0},
        reward="plaudit.algorithms.objectives:log_ratio_reward",
        needs_reference=True,
        reads="ranks",
    )
    assert reward_loss("mine:loss") == RewardLossEntry("", "", "mine:loss", {"margin": 0.0})
    for look_up in (policy_loss, preference_loss, reward_loss):
        with pytest.raises(KeyError):
            look_up("unknown")


def test_a_name_keeps_its_entry() -> None:
    entries: Catalogue[Entry] = Catalogue()
    entries["mine"] = Entry("x^2", "", "mine:loss")
    entries["mine"] = Entry("x^2", "", "mine:loss")
    with pytest.raises(ValueError, match="mine is already in the catalogue"):
        entries["mine"] = Entry("x^3", "", "mine:other")
    assert entries == {"mine": Entry("x^2", "", "mine:loss")}
