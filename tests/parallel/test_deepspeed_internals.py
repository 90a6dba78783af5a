"""Undocumented parts of DeepSpeed: a version that lacks one is refused by name, before training."""

import importlib.util
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from plaudit.config.schema.distribution import STRATEGIES
from plaudit.errors import PlauditError
from plaudit.parallel.deepspeed_internals import OPTIMIZER_ATTRIBUTES, check_internals, forget_gradients

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed: pip install 'plaudit[deepspeed]'"
)


@needs_deepspeed
@pytest.mark.parametrize("gone", OPTIMIZER_ATTRIBUTES)
def test_a_missing_attribute_is_named(gone: str) -> None:
    left = {name: None for name in OPTIMIZER_ATTRIBUTES if name != gone}
    with pytest.raises(PlauditError, match=rf"zero2 needs {gone}, which DeepSpeed [\d.]+ does not have; install"):
        check_internals(SimpleNamespace(optimizer=SimpleNamespace(**left)))


def test_an_optimizer_with_all_attributes_is_accepted() -> None:
    check_internals(SimpleNamespace(optimizer=SimpleNamespace(**dict.fromkeys(OPTIMIZER_ATTRIBUTES))))


def test_only_the_listed_attributes_are_used() -> None:
    """An optimizer with nothing but ``OPTIMIZER_ATTRIBUTES`` can forget its gradients."""
    reset: list[bool] = []

    def zero_grad(set_to_none: bool) -> None:
        reset.append(set_to_none)

    optimizer = SimpleNamespace(
        all_grad_tensors={0: [1], 1: [2]},
        averaged_gradients={0: [1], 1: [2]},
        refresh_fp32_params=None,
        zero_grad=zero_grad,
    )
    forget_gradients(SimpleNamespace(optimizer=optimizer), 2)
    assert optimizer.all_grad_tensors == optimizer.averaged_gradients == {0: None, 1: None}
    assert reset == [True]


def test_the_bounds_are_those_that_pip_installs() -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["deepspeed"] == [STRATEGIES["zero2"].requirement]
    assert STRATEGIES["zero2"].requirement in extras["test"]
