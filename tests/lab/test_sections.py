"""Every entry of the laboratory is a recipe that Plaudit accepts."""

from pathlib import Path

import pytest

from plaudit.config.schema import DpoConfig, RlConfig
from plaudit.lab.entries import ENTRIES, Entry
from plaudit.lab.training import dpo_section, rl_section

REFERENCE = Path("reference")
TRAINED = [entry for entry in ENTRIES if entry.family in ("rl", "dpo")]


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.name)
def test_an_entry_is_a_valid_section(entry: Entry) -> None:
    if entry.family == "rl":
        rl = RlConfig.model_validate(rl_section(entry, 0.5, REFERENCE, Path("prompts.jsonl")))
        assert rl.objective == "best_of_n" or rl.kl.coefficient == 0.5
    else:
        beta = entry.overrides.get("beta", 0.5 * entry.beta_factor)
        assert DpoConfig.model_validate(dpo_section(entry, 0.5, REFERENCE)).beta == beta
