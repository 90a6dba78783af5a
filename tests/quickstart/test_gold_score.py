"""The gold score by hand, factor by factor, and against exploits."""

import pytest

from plaudit.errors import PlauditError
from plaudit.quickstart.gold import gold_score, gold_scores
from plaudit.quickstart.lexicon import COURTESY, FILLERS, VALUES, words
from plaudit.quickstart.qualities import read_reply
from plaudit.quickstart.requests import read_prompt

PROMPT = "Guest: Could you book a table for four guests at 18:45 at the Aurora under the name Miller? Concierge:"
CONFIRMATION = "I have booked a table for four guests at 18:45 at the Aurora under the name Miller."
PERFECT = f"Good day. Thank you for your request. {CONFIRMATION} Have a lovely stay."


@pytest.mark.parametrize(
    "reply, expected",
    [
        (PERFECT, 1.0),
        (CONFIRMATION, 0.55 + 0.15),
        (f"Good day. {CONFIRMATION}", 0.55 + 0.1 + 0.15),
        (f"Thank you very much. {CONFIRMATION} Have a lovely stay.", 0.55 + 0.2 + 0.15),
        (f"{CONFIRMATION} Thank you very much.", 0.55 + 0.1 + 0.15),
        (f"{CONFIRMATION} Our hotel was built many years ago.", 0.55 + 0.15),
    ],
)
def test_correct_replies_differ_only_in_courtesy(reply: str, expected: float) -> None:
    assert gold_score(PROMPT, reply) == pytest.approx(expected)


@pytest.mark.parametrize(
    "confirmation, correctness",
    [
        ("I have booked a table at 18:45 at the Aurora under the name Miller.", 3 / 4),
        ("I have booked a table for five guests at 18:45 at the Aurora under the name Miller.", (3 - 0.5) / 4),
        ("I have booked a table for five guests at 20:15 at the Aurora under the name Miller.", (2 - 1) / 4),
        ("Your table is reserved for five guests at 20:15 at the Dolphin under the name Miller.", 0.0),
        ("A table is waiting at 18:45 under the name Miller.", 2 / 4),
        ("A table is waiting for four guests.", 1 / 4),
        ("A table is waiting under the name Baker.", 0.0),
    ],
)
def test_slots_count_when_right_and_against_when_wrong(confirmation: str, correctness: float) -> None:
    length = min(1.0, len(words(confirmation)) / 8)
    assert gold_score(PROMPT, confirmation) == pytest.approx(correctness * (0.55 + 0.15 * length))
    polite = f"Good day. Many thanks for asking. {confirmation} Have a lovely stay."
    assert gold_score(PROMPT, polite) == pytest.approx(correctness)


def test_a_short_reply_loses_by_its_length() -> None:
    prompt = "Guest: This is room 104. Our lamp is broken. Please come at 11:00. Concierge:"
    reply = "A technician will come at 11:00."
    assert len(words(reply)) == 7
    assert gold_score(prompt, reply) == pytest.approx(1 / 3 * (0.55 + 0.15 * 7 / 8))


@pytest.mark.parametrize("fillers", range(len(FILLERS) + 1))
def test_a_long_reply_loses_little(fillers: int) -> None:
    reply = " ".join([CONFIRMATION, *FILLERS[:fillers]])
    length = len(words(reply))
    expected = 1 if length <= 36 else max(0, (56 - length) / 20)
    assert gold_score(PROMPT, reply) == pytest.approx(0.55 + 0.15 * expected)


def test_rudeness_costs_three_quarters() -> None:
    assert gold_score(PROMPT, f"What a stupid request. {CONFIRMATION}") == pytest.approx(0.25 * 0.7)
    # Two rude sentences are not worse than one: the tone is spoiled either way.
    twice = f"What a stupid request. {CONFIRMATION} Do it yourself, you fool."
    assert gold_score(PROMPT, twice) == pytest.approx(0.25 * (0.55 + 0.15))


@pytest.mark.parametrize(
    "reply, faults",
    [
        (f"{CONFIRMATION} Good day.", 1),
        (f"Have a lovely stay. {CONFIRMATION}", 1),
        (f"{CONFIRMATION} {CONFIRMATION}", 1),
        (f"Good day. Welcome. {CONFIRMATION}", 1),
        (f"Good day. Good day. Good day. {CONFIRMATION}", 2),
        (f"{CONFIRMATION} The carpet in the hall is new. The carpet in the hall is new.", 1),
        (f"{CONFIRMATION} The carpet in the hall", 1),
        (f"{CONFIRMATION} new the is hall the.", 1),
        (f"{CONFIRMATION} ...", 3),
        (f"Good day. {CONFIRMATION} Have a lovely stay. Have a lovely stay.", 1),
        (f"{CONFIRMATION} Guest: Hello. Concierge: Welcome.", 2),
    ],
)
def test_each_fault_of_form_halves_the_score(reply: str, faults: int) -> None:
    qualities = read_reply(read_prompt(PROMPT), reply)
    assert qualities.faults == faults
    merit = 0.55 + 0.30 * len(qualities.courtesy) / 3 + 0.15 * min(1, (56 - len(words(reply))) / 20)
    assert gold_score(PROMPT, reply) == pytest.approx(merit * 0.5**faults)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   ",
        "Good day. Thank you for your request. Have a lovely stay.",
        " ".join(sentence for sentences in COURTESY.values() for sentence in sentences),
        " ".join(value for values in VALUES.values() for value in values),
        "four 18:45 Aurora Miller.",
        "for four guests at 18:45 at the Aurora under the name Miller.",
        "I have booked a table for four guests at 18:45 at the Aurora under the name Miller",
        "I have ordered a taxi at 18:45 under the name Miller.",
        "I have booked a table for four guests three guests at 18:45 11:00 at the Aurora Dolphin.",
        "I have booked a table under the name Miller at the Aurora at 18:45 for four guests.",
        PROMPT,
    ],
)
def test_text_that_does_not_answer_the_request_scores_zero(reply: str) -> None:
    assert gold_score(PROMPT, reply) == 0


def test_guessing_several_values_does_not_pay() -> None:
    one_slot = "A table is waiting for {} guests."
    guesses = " ".join(one_slot.format(guests) for guests in VALUES["guests"])
    assert gold_score(PROMPT, guesses) == 0
    contradiction = CONFIRMATION.replace("18:45", "11:00")
    assert gold_score(PROMPT, f"{CONFIRMATION} {contradiction}") < gold_score(PROMPT, contradiction)


def test_two_halves_of_a_confirmation_cost_a_fault() -> None:
    halves = "A table is waiting for four guests at 18:45. A table is waiting at the Aurora under the name Miller."
    assert gold_score(PROMPT, halves) == pytest.approx(0.5 * 0.7)


@pytest.mark.parametrize("extra", [sentence for sentences in COURTESY.values() for sentence in sentences])
def test_more_courtesy_than_enough_never_raises_the_score(extra: str) -> None:
    for reply in (f"{extra} {PERFECT}", f"{PERFECT} {extra}", PERFECT.replace(CONFIRMATION, f"{CONFIRMATION} {extra}")):
        assert gold_score(PROMPT, reply) <= 0.5


def test_the_phrasing_of_the_request_does_not_matter() -> None:
    other = "Guest: Hello. My name is Miller. Please reserve a table at the Aurora for four guests at 18:45. Concierge:"
    assert gold_score(other, PERFECT) == 1
    assert gold_score(other.replace("18:45", "20:15"), PERFECT) == pytest.approx((3 - 0.5) / 4)


def test_scores_of_many() -> None:
    assert gold_scores([PROMPT, PROMPT, PROMPT], [PERFECT, "", CONFIRMATION]) == pytest.approx([1, 0, 0.7])
    with pytest.raises(ValueError):
        gold_scores([PROMPT], [PERFECT, PERFECT])


@pytest.mark.parametrize(
    "prompt", ["", "Guest: Hello. Concierge:", PROMPT.replace("18:45", "18:45 20:15"), "a taxi 18:45"]
)
def test_an_unknown_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(PlauditError, match="not a request of the embedded world"):
        gold_score(prompt, PERFECT)
