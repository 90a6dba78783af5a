"""YAML values survive writing and reading; numbers are numbers and strings stay strings."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.config.yaml_text import parse_yaml, write_yaml
from plaudit.errors import PlauditError

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    | st.from_regex(r"[-+]?[0-9]{0,3}[.:eE_]?[0-9]{0,2}[eE]?[-+]?[0-9]{1,2}", fullmatch=True)
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.:-", min_size=1), inner, max_size=4),
)


@given(_values)
def test_writing_and_reading_gives_the_same_value_of_the_same_type(value: Any) -> None:
    again = parse_yaml(write_yaml(value), "text")
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "text, number",
    [("1e-4", 1e-4), ("1E5", 1e5), ("2.5e+3", 2500.0), (".5", 0.5), ("3.", 3.0), ("-1e2", -100.0), ("7", 7)],
)
def test_numbers(text: str, number: float) -> None:
    value = parse_yaml(text, "text")
    assert (value, type(value)) == (number, type(number))


@pytest.mark.parametrize("text", ["1e", "e5", "1-4", "v1.0", "1e-4x", "4bit"])
def test_strings_that_look_a_little_like_numbers(text: str) -> None:
    assert parse_yaml(text, "text") == text


def test_infinity() -> None:
    assert parse_yaml("-.inf", "text") == -math.inf


def test_keys_given_twice_are_refused_at_any_depth_but_may_replace_merged_ones() -> None:
    with pytest.raises(PlauditError, match=r"^file:3: .*key 'x' is given twice"):
        parse_yaml("a:\n  x: 1\n  x: 2\n", "file")
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "file")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize("text", ["a: !!python/object:os.system x", "? [a]\n: b", "a: 2026-13-45", "a: \x07"])
def test_unsupported_yaml_is_a_one_line_error(text: str) -> None:
    with pytest.raises(PlauditError) as caught:
        parse_yaml(text, "file")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file:")
