"""The hash of a function: equal for equal functions at other lines, different for other code or values."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.function_content import content_hash
from plaudit.config.load import dump, load_recipe
from plaudit.errors import PlauditError
from plaudit.runs.changes import refuse_changes


class Scaled:
    """Multiplies by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, value: float) -> float:
        return self.factor * value

    def method(self, value: float) -> float:
        return self(value)


def closure(factor: Any) -> Any:
    return lambda value: value * factor


def with_default(factor: float) -> Any:
    return lambda value, by=factor: value * by


def scaled(value: float, factor: float = 1.0) -> float:
    return value * factor


def recursive(factor: float) -> Any:
    def inner(value: float) -> float:
        return value if value > factor else inner(value + 1)

    return inner


MAKE = [
    Scaled,
    lambda factor: Scaled(factor).method,
    closure,
    with_default,
    recursive,
    lambda factor: partial(scaled, factor=factor),
    lambda factor: partial(scaled, factor),
    lambda factor: partial(Scaled(factor)),
    lambda factor: closure({"a": [factor, {1}]}),
    lambda factor: closure(closure(factor)),
]


@pytest.mark.parametrize("make", MAKE)
def test_values_count(make: Any) -> None:
    assert content_hash(make(2.0)) == content_hash(make(2.0)) != content_hash(make(3.0))


def test_code_counts_and_lines_do_not() -> None:
    functions = [
        lambda value: value + 1,
        lambda value: value + 1,
        lambda value: value - 1,
        lambda value: value + 2,
        lambda value: value.real,
        lambda value: value.imag,
        lambda value: [one + 1 for one in value],
        lambda value: [one + 2 for one in value],
    ]
    hashes = [content_hash(function) for function in functions]
    assert hashes[0] == hashes[1]
    assert len({*hashes}) == len(hashes) - 1


def test_the_hash_is_the_same_in_every_process() -> None:
    script = (
        "from plaudit.config.function_content import content_hash\n"
        "print(content_hash(lambda text: text in {'a', 'b', 'c', 'd'} and object()))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(hashes) == 1


def test_another_function_of_the_same_place_is_told_when_a_run_is_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def recipe(reward: Any) -> Any:
        return load_recipe("quickstart", [{"rl.rewards": [reward]}])

    configuration = tmp_path / "config.yaml"
    configuration.write_text(dump(recipe(closure(2))), encoding="utf-8")
    refuse_changes(configuration, recipe(closure(2)), ["rl"])
    refuse_changes(configuration, recipe(closure(3)), ["sft"])
    assert caplog.messages == []
    refuse_changes(configuration, recipe(closure(3)), ["rl"])
    [message] = caplog.messages
    assert message.startswith("rl.rewards.0.function: the code or the values of closure.<locals>.<lambda> (test_func")
    assert "code " not in message.partition(" of closure")[2]
    with pytest.raises(PlauditError, match=r"rl\.rewards\.0\.function: .* -> .*changed since the run began"):
        refuse_changes(configuration, recipe(with_default(2)), ["rl"])
