"""Labels and numbers in all the spellings of data files; whatever could mean two things is refused."""

import json
from typing import Any

import pytest

from plaudit.data.formats.base import BadRowError
from plaudit.data.formats.values import label, number, structured, whole_number


@pytest.mark.parametrize(
    "value",
    [True, 1, 1.0, "1", "1.0", "true", " True ", "YES", "y", "good", "thumbs_up", "Thumbs Up", "\N{THUMBS UP SIGN}"],
)
def test_desirable(value: Any) -> None:
    assert label(value) is True


@pytest.mark.parametrize(
    "value",
    [False, 0, 0.0, -1, -1.0, "0", "0.0", "-1", "False", "no", "n", "bad", "thumbs_down", "\N{THUMBS DOWN SIGN}"],
)
def test_undesirable(value: Any) -> None:
    assert label(value) is False


@pytest.mark.parametrize(
    "good, bad",
    [
        ("chosen", "rejected"),
        ("Accepted", "Rejected"),
        ("accept", "reject"),
        ("GOOD", "BAD"),
        ("desirable", "undesirable"),
        ("Yes", "No"),
        ("positive", "negative"),
        ("thumbs_up", "thumbs_down"),
        ("Thumbs-Up", "thumbs down"),
        ("correct", "incorrect"),
        (" like ", "dislike"),
        ("upvote", "downvote"),
    ],
)
def test_labels_as_words(good: str, bad: str) -> None:
    assert (label(good), label(bad)) == (True, False)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        2,
        0.5,
        "perhaps",
        "10",
        [True],
        {"label": True},
        float("nan"),
        "safe",
        "not bad",
        "- 1",
        "neutral",
    ],
)
def test_no_label(value: Any) -> None:
    with pytest.raises(BadRowError, match="kto_tag is not true or false"):
        label(value, "kto_tag")


@pytest.mark.parametrize(
    "value", ["chosen/rejected", "goodbye", "yes, no", "tie", "ch osen", "un_desirable", "chosen1"]
)
def test_words_that_only_contain_a_label_are_none(value: str) -> None:
    with pytest.raises(BadRowError, match="label is not true or false"):
        label(value)


@pytest.mark.parametrize("value, expected", [(3, 3), (3.0, 3), ("3", 3), ("3.0", 3), (" -2 ", -2), ("1e2", 100)])
def test_whole_numbers(value: Any, expected: int) -> None:
    found = whole_number(value, "rank")
    assert found == expected
    assert isinstance(found, int)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        "1.5",
        "x",
        "",
        "²",
        "٣",
        "1_000",
        10**400,
        "9" * 5000,
        float("inf"),
        float("nan"),
        "nan",
        "inf",
        [1],
    ],
)
def test_no_whole_number(value: Any) -> None:
    with pytest.raises(BadRowError, match="rank is not a whole number"):
        whole_number(value, "rank")


def test_numbers_are_finite() -> None:
    assert [number(value, "score") for value in (1, -2.5, "0.25", "-3")] == [1, -2.5, 0.25, -3]
    for value in ("nan", "inf", float("inf"), float("nan"), "1,5", None, False, "1_0"):
        with pytest.raises(BadRowError, match="score is not a number"):
            number(value, "score")


def test_numbers_with_thousands_of_digits_are_refused_without_writing_them() -> None:
    huge = 10**5000
    for read in (label, whole_number, number):
        with pytest.raises(BadRowError, match="a number with hundreds of digits"):
            read(huge, "rank")


def test_structures_in_text() -> None:
    turns = [{"role": "user", "content": 'It\'s "me"'}]
    for text in (json.dumps(turns), str(turns), "  " + json.dumps(turns)):
        assert structured(text) == turns
    for text in ("[1, 2", "plain", "{not json}", "[" * 5000, '"quoted"', "", "['a' 'b'"):
        assert structured(text) == text
    assert structured(turns) is turns
