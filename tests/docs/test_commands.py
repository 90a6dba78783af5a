"""The commands in the documentation can be run: their recipes accept the keys that they set."""

import re
import shlex
from pathlib import Path

import pytest

from plaudit.config.load import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src/plaudit/recipes").glob("*.yaml")]
COMMAND = re.compile(
    r"(?:^ *(?:\$ )?|`)(?:\.venv/bin/)?plaudit (?:run|pretrain|sft|reward|dpo|rl|evaluate|report) ([\w.-]+)([^`\n]*)",
    re.MULTILINE,
)


def commands() -> list[tuple[str, list[str]]]:
    """Return the recipes and overrides of the commands that name a shipped recipe; shell variables are left out."""
    found = []
    for page in PAGES:
        for name, rest in COMMAND.findall(page.read_text(encoding="utf-8")):
            if name in shipped_recipes():
                words = shlex.split(rest, comments=True)
                found.append((name, [word for word in words if re.match(r"[a-z_.\d]+=", word)]))
    return found


@pytest.mark.parametrize(
    "name, overrides", commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_the_recipe_takes_the_overrides(name: str, overrides: list[str]) -> None:
    assert load_recipe(name, overrides).name


def test_commands_with_overrides_are_found() -> None:
    assert sum(bool(overrides) for _, overrides in commands()) >= 5
