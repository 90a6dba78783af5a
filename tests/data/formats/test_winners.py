"""Which of two responses won, in every spelling; never the other one, and never a guess."""

from typing import Any

import pytest

from plaudit.data.formats.base import BadRowError
from plaudit.data.formats.winners import FIRST, SECOND, TIE, Coding, coding_of, ending_of, majority, winner
from plaudit.errors import PlauditError

AB = ("response_a", "response_b")
NUMBERED = ("response_1", "response_2")
MODELS = {"model_a": "swan-7b", "model_b": "heron-2b"}


NO_NUMBERS = Coding(None)


def won(value: Any, names: tuple[str, str] = AB, coding: Coding = NO_NUMBERS) -> int | None:
    return winner(value, MODELS, names, coding, "winner")


@pytest.mark.parametrize(
    "first, second",
    [
        ("a", "b"),
        ("A", "B"),
        ("left", "right"),
        ("First", "Second"),
        ("model_a", "model_b"),
        ("Model A", "Model B"),
        ("response_a", "response_b"),
        ("Response A is better", "Response B is better"),
        ("left is better", "right is better"),
        ("[[A]]", "[[B]]"),
        ("A wins", "B wins"),
        ("swan-7b", "heron-2b"),
        (["a", "a", "b"], ["b", "a", "b"]),
        ('["a", "a", "b"]', '["b", "a", "b"]'),
        ([{"winner": "a"}], [{"winner": "b", "user": "u"}]),
        ({"ann": "a", "ben": "tie"}, {"ann": "b", "ben": "tie"}),
        # Numbers of votes for each side
        ({"a": 2, "b": 1, "tie": 4}, {"a": 0, "b": 1, "tie": 0}),
        ({"B": 1, "A": 3}, '{"A": 1, "B": 3}'),
        ({"model_a": 1, "model_b": 0}, {"model_a": 0, "model_b": 1, "both_bad": 0}),
        ({"left": True, "right": False}, {"left": False, "right": True}),
        ({"swan-7b": 0.7, "heron-2b": 0.3}, {"swan-7b": 0.2, "heron-2b": 0.8}),
        ({"response_a": 5}, {"response_b": 1}),
    ],
)
def test_sides_in_words(first: Any, second: Any) -> None:
    assert (won(first), won(second)) == (FIRST, SECOND)


@pytest.mark.parametrize(
    "value",
    [
        *("tie", "Tie", "tie (bothbad)", "both_bad", "draw", "equal", "neither", "no preference", "Both are bad"),
        ["a", "b"],
        {"a": 1, "b": 1},
        {"a": 2, "b": 2, "tie": 1},
    ],
)
def test_ties(value: Any) -> None:
    assert won(value) is TIE


def test_counts_by_numbered_responses_say_nothing_about_the_coding() -> None:
    votes = {"response_1": 1, "response_2": 4, "tie": 9}
    assert coding_of([votes], ("1", "2"), "votes") == NO_NUMBERS
    assert won(votes, NUMBERED) == SECOND


def test_votes_for_no_side_are_bad() -> None:
    with pytest.raises(BadRowError, match="winner holds no vote"):
        won({"a": 0, "b": 0, "tie": 0})


def test_a_zero_and_a_one_in_every_record_are_not_guessed() -> None:
    with pytest.raises(PlauditError, match="label holds 0 and 1 in every one of the first records"):
        coding_of([[0, 1], "[1, 0]", {"x": 0, "y": 1}], ("0", "1"), "label")
    assert coding_of([[0, 1], [1, 1]], ("0", "1"), "label") == Coding(0)


def test_the_names_of_columns_decide_what_their_numbers_mean() -> None:
    assert (won("response_1", NUMBERED), won("response_2", NUMBERED)) == (FIRST, SECOND)
    zero = ("response_0", "response_1")
    assert (won("response_0", zero), won("response_1", zero)) == (FIRST, SECOND)


def test_numbers_in_the_coding_of_the_file() -> None:
    assert [won(value, coding=Coding(0)) for value in (0, 1, "0", "1.0")] == [FIRST, SECOND, FIRST, SECOND]
    assert [won(value, coding=Coding(1)) for value in (1, 2, "2", 1.0)] == [FIRST, SECOND, SECOND, FIRST]
    assert [won(value, coding=Coding(1)) for value in (1.2, 1.5, 1.93)] == [FIRST, TIE, SECOND]


@pytest.mark.parametrize(
    "value, coding",
    [
        (2, Coding(0)),
        (-1, Coding(0)),
        (0.5, Coding(0)),
        (0, Coding(1)),
        (3, Coding(1)),
        (1, Coding(None)),
        ("c", Coding(0)),
        ("a lot", Coding(0)),
        ("", Coding(0)),
        (None, Coding(0)),
        (True, Coding(0)),
        ([], Coding(0)),
        ("parrot-1b", Coding(0)),
        (["a", "?"], Coding(0)),
        ([{"user": "u"}], Coding(0)),
    ],
)
def test_what_names_no_side_is_bad(value: Any, coding: Coding) -> None:
    with pytest.raises(BadRowError):
        won(value, coding=coding)


def test_models_of_one_name_say_nothing() -> None:
    with pytest.raises(BadRowError):
        winner("swan", {"model_a": "swan", "model_b": "swan"}, AB, Coding(None), "winner")


@pytest.mark.parametrize(
    "values, endings, start",
    [
        ([0, 1, 1], ("a", "b"), 0),
        ([0.0, 1.0], ("a", "b"), 0),
        ([0, 0], ("a", "b"), 0),
        ([0, 1], ("0", "1"), 0),
        ([1, 1], ("0", "1"), 0),
        ([1, 2], ("a", "b"), 1),
        (["1", "2"], ("left", "right"), 1),
        ([1, 1], ("1", "2"), 1),
        ([2], ("a", "b"), 1),
        ([1.0, 1.7], ("1", "2"), 1),
        ([[1, 2], [2, 2]], ("a", "b"), 1),
        (["model_1", "model_2"], ("a", "b"), 1),
        (["a", "tie"], ("a", "b"), None),
    ],
)
def test_where_a_file_counts_from(values: list[Any], endings: tuple[str, str], start: int | None) -> None:
    assert coding_of(values, endings, "winner").start == start


@pytest.mark.parametrize(
    "values, endings, column",
    [
        ([1, 1], ("a", "b"), "winner"),
        ([0, 1, 2], ("a", "b"), "winner"),
        ([0, 1], ("1", "2"), "winner"),
        ([0, 1], ("a", "b"), "label"),
        ([0, 1], ("a", "b"), "preference"),
        ([-1, 1], ("a", "b"), "winner"),
        ([0.3, 0.8], ("a", "b"), "winner"),
        ([1, 2, 3], ("1", "2"), "winner"),
    ],
)
def test_codings_with_two_readings_are_refused(values: list[Any], endings: tuple[str, str], column: str) -> None:
    with pytest.raises(PlauditError, match=rf"{column} is .*write {endings[0]}, {endings[1]} or tie"):
        coding_of(values, endings, column)


def test_the_majority_of_votes() -> None:
    assert majority([FIRST, SECOND, SECOND, TIE], "votes") == SECOND
    assert majority([FIRST, SECOND, TIE], "votes") is TIE


@pytest.mark.parametrize(
    "name, ending",
    [
        ("response_a", "a"),
        ("output-2", "2"),
        ("answerB", "B"),
        ("text1", "1"),
        ("response_left", "left"),
        ("left_response", "left"),
        ("model_a_response", "a"),
        ("b", "b"),
        ("right", "right"),
    ],
)
def test_endings_of_names(name: str, ending: str) -> None:
    assert ending_of(name) == ending
