"""Damaged recipes and overrides: each is loaded or refused with PlauditError; nothing else happens."""

import random
from pathlib import Path

import pytest

from fuzzing.effort import cases
from plaudit.config.load import load_recipe, shipped_recipes
from plaudit.errors import PlauditError

VALUES = [
    *(
        "null",
        "true",
        "0",
        "-1",
        "1",
        "1e-4",
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "9" * 5000,
        "0x" + "f" * 3000,
        "1:30:00",
    ),
    *(
        "''",
        "x",
        '"\\0"',
        '"\\ud800"',
        "stage:sft",
        "stage:",
        "stage:rl/../../x",
        "2026-01-01",
        "~",
        "=",
        "[",
        "{",
        "*a",
    ),
    *(
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!timestamp x",
        "!!binary '*'",
        "!!set {a}",
        "!!omap [a]",
        "!!python/name:os",
    ),
    *(
        "&a [*a]",
        "&a {b: *a}",
        "[" * 200,
        "{a: " * 200,
        "[]",
        "{}",
        "[[]]",
        "{1: 2}",
        "{null: 1}",
        "? [a]",
        "http://a:b@c",
    ),
    *("- a", "{path: x}", "[{path: x}]", "[{name: a, kind: http, url: 'http://[::1'}]", "[{kind: ensemble}]", "'../x'"),
]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def damaged(case: random.Random, text: str) -> str:
    lines = text.splitlines()
    for _ in range(case.randint(1, 3)):
        index = case.randrange(len(lines))
        key, colon, _ = lines[index].partition(":")
        change = case.randrange(6)
        if change == 0:
            lines[index] = f"{key}{colon} {case.choice(VALUES)}"
        elif change == 1:
            lines[index] = " " * case.randrange(8) + lines[index].strip()
        elif change == 2:
            lines.insert(index, case.choice(lines))
        elif change == 3 and len(lines) > 1:
            del lines[index]
        elif change == 4:
            lines[index] = f"{key}x{colon} {case.choice(VALUES)}"
        else:
            at = case.randrange(len(lines[index]) + 1)
            lines[index] = lines[index][:at] + case.choice(":,[]{}&*!|>'\"%@`#\t\x00\x1b\x85é") + lines[index][at:]
    return "\n".join(lines)


def override(case: random.Random, text: str) -> str:
    keys = [line.split(":")[0].strip(" -#") for line in text.splitlines() if ":" in line]
    steps = [
        *keys,
        "0",
        "-1",
        "9" * 30,
        "",
        "²",
        "name",
        "sft",
        "rl",
        "rewards",
        "data",
        "sources",
        "path",
        "kl",
        "optimizer",
    ]
    place = ".".join(case.choice(steps) for _ in range(case.randint(1, 5)))
    return f"{place}={case.choice(VALUES)}" if case.random() < 0.95 else place


def test_every_damaged_recipe_is_loaded_or_refused(tmp_path: Path) -> None:
    shipped = list(shipped_recipes().values())
    refused = 0
    number = 0
    texts: list[str] = []
    for case in cases(1200):
        number += 1
        text = case.choice(shipped)
        overrides = [override(case, text) for _ in range(case.randrange(3))]
        path = tmp_path / "recipe.yaml"
        path.write_text(damaged(case, text), encoding="utf-8", newline="")
        try:
            load_recipe(str(path), overrides)
        except PlauditError as error:
            refused += 1
            texts.append(str(error))
        except Exception as error:
            raise AssertionError(f"case {case.case}: {type(error).__name__}: {error}") from error
    assert number == 1 or 0 < refused < number
    assert all(text.strip() and len(text) < 5000 for text in texts)


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, "aliases that stand for more than"),
        ("name: &a [*a]", "an anchor that contains itself"),
        ("name: " + "[" * 100_000, "nested deeper than"),
        ("a:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 200)), "nested deeper than"),
        ("seed: " + "9" * 5000, "seed|is not a value|above 2"),
        ("name: a\nseed: 99999999999999999999", "above 2"),
        ("name: !!int x", "'x' is not a value of type int"),
        ("name: !!timestamp x", "'x' is not a value of type timestamp"),
        ("name: !!bool x", "'x' is not a value of type bool"),
        ('name: "a\\0b"', "a NUL character"),
        (
            "name: a\nsft: {model: m, data: {sources: [b]}, epochs: .nan}",
            "sft.epochs: expected a number above 0, not .nan",
        ),
        ("name: a\nsft: {model: m, data: {sources: [b]}, epochs: 1e300}", "sft.epochs: .* is too large"),
        ("name: a\nsft: {model: m, data: {sources: [b]}, batch_size: 999999999999}", "sft.batch_size: .* is too large"),
        ("x" * 2_000_000, "characters, but a recipe has at most"),
    ],
)
def test_hostile_recipes_are_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlauditError, match=message) as error:
        load_recipe(str(path))
    assert str(error.value).startswith(str(path))
