"""Requests, replies and their vocabulary can be parsed, are independent, and do not overlap."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from plaudit.errors import PlauditError
from plaudit.quickstart.corruptions import CORRUPTIONS, Corruption, break_off, leave_out_confirmation, ramble
from plaudit.quickstart.gold import gold_score
from plaudit.quickstart.lexicon import COURTESY, FILLERS, KINDS, RUDE, RUDE_WORDS, VALUES, vocabulary, words
from plaudit.quickstart.overheard import write_overheard_reply
from plaudit.quickstart.qualities import read_reply
from plaudit.quickstart.replies import MIXED, Habits, plan_reply, write_reply, write_sentences
from plaudit.quickstart.requests import USES, draw_prompts, draw_request, read_prompt, write_prompt


def test_values_of_different_slots_differ_and_occur_in_no_other_text() -> None:
    values = [value for choices in VALUES.values() for value in choices]
    assert len(values) == len(set(values))
    fixed = [*FILLERS, *RUDE, *(sentence for sentences in COURTESY.values() for sentence in sentences)]
    fixed += [text for kind in KINDS for text in (*kind.phrasings, *kind.heads, *kind.fragments.values())]
    assert not set(values) & {word for text in fixed for word in words(text)}


def test_every_phrasing_names_every_slot_and_kinds_differ_in_their_slots() -> None:
    for kind in KINDS:
        for phrasing in kind.phrasings:
            assert all(phrasing.count(f"{{{slot}}}") == 1 for slot in kind.slots)
            assert phrasing.count("{") == len(kind.slots)
    assert len({frozenset(kind.slots) for kind in KINDS}) == len(KINDS)


def test_rude_words_occur_in_every_rude_sentence_and_nowhere_else() -> None:
    assert all(RUDE_WORDS & set(words(sentence)) for sentence in RUDE)
    polite = [*FILLERS, *(sentence for sentences in COURTESY.values() for sentence in sentences)]
    polite += [text for kind in KINDS for text in (*kind.phrasings, *kind.heads)]
    assert not any(RUDE_WORDS & set(words(text)) for text in polite)


def test_the_vocabulary_is_small_and_covers_all_texts() -> None:
    assert 150 <= len(vocabulary()) <= 600
    known = set(vocabulary())
    random_numbers = random.Random(0)
    for _ in range(500):
        request = draw_request(random_numbers)
        texts = [write_prompt(request, random_numbers), write_overheard_reply(request, random_numbers)]
        assert known.issuperset(word for text in texts for word in words(text))


def test_prompts_can_be_read_back() -> None:
    random_numbers = random.Random(1)
    for _ in range(500):
        request = draw_request(random_numbers)
        assert read_prompt(write_prompt(request, random_numbers)) == request


def test_the_use_depends_on_the_request_and_not_on_its_phrasing() -> None:
    random_numbers = random.Random(2)
    uses = [draw_request(random_numbers).use for _ in range(20000)]
    for use, share in USES.items():
        assert uses.count(use) / len(uses) == pytest.approx(share, abs=0.02)
    request = draw_request(random_numbers)
    assert {read_prompt(write_prompt(request, random_numbers)).use for _ in range(20)} == {request.use}


def test_prompts_of_different_uses_are_disjoint_even_in_content() -> None:
    drawn = {use: draw_prompts(use, 300, random.Random(3)) for use in USES}
    assert all(len(set(prompts)) == 300 for prompts in drawn.values())
    contents = {use: {tuple(read_prompt(prompt).values.items()) for prompt in drawn[use]} for use in USES}
    for use, other in itertools.combinations(USES, 2):
        assert not set(drawn[use]) & set(drawn[other])
        assert not contents[use] & contents[other]


def test_too_few_prompts_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [kind for kind in KINDS if kind.name == "call"]
    monkeypatch.setattr("plaudit.quickstart.requests.KINDS", calls)
    # 5 days, 6 times, 6 rooms, 4 phrasings, 8 openings: 5760 prompts, and about a seventh of them for demonstrations.
    assert len(draw_prompts("demonstrations", 300, random.Random(0))) == 300
    with pytest.raises(PlauditError, match="of 1500 different prompts for demonstrations"):
        draw_prompts("demonstrations", 1500, random.Random(0))


def test_a_reply_says_what_was_planned() -> None:
    random_numbers = random.Random(4)
    for _ in range(500):
        request = draw_request(random_numbers)
        plan = plan_reply(request, MIXED, random_numbers)
        qualities = read_reply(request, " ".join(write_sentences(request, plan, random_numbers)))
        assert qualities.right == sum(plan.slots.get(slot) == value for slot, value in request.values.items())
        assert qualities.right + qualities.wrong == len(plan.slots)
        assert (qualities.courtesy, qualities.rude, qualities.faults) == (plan.courtesy, plan.rude, 0)


def test_the_factors_of_a_reply_are_independent() -> None:
    random_numbers = random.Random(5)
    rows = []
    for _ in range(20000):
        request = draw_request(random_numbers)
        plan = plan_reply(request, MIXED, random_numbers)
        slot, other = random_numbers.sample(list(request.values), 2)
        factors = [plan.slots.get(name) == request.values[name] for name in (slot, other)]
        factors += [name in plan.slots and plan.slots[name] != request.values[name] for name in (slot, other)]
        rows.append([*factors, *(mark in plan.courtesy for mark in COURTESY), plan.fillers, plan.rude])
    table = torch.tensor(rows, dtype=torch.float64)
    expected = [MIXED.right] * 2 + [MIXED.wrong] * 2 + [MIXED.courtesy] * 3 + [0.7, MIXED.rude]
    torch.testing.assert_close(table.mean(0), torch.tensor(expected, dtype=torch.float64), atol=0.02, rtol=0)
    correlations = torch.corrcoef(table.T)
    # A slot cannot be both right and wrong: this is the only dependence.
    correlations[0, 2] = correlations[2, 0] = correlations[1, 3] = correlations[3, 1] = 0
    assert (correlations - torch.eye(len(correlations))).abs().max() < 0.03


def test_overheard_replies_correct_every_slip() -> None:
    random_numbers = random.Random(6)
    slips = late = 0
    for _ in range(1000):
        request = draw_request(random_numbers)
        reply = write_overheard_reply(request, random_numbers)
        right, own = set(request.values.values()), words(reply)
        wrong = [word for word in own if word not in right and any(word in values for values in VALUES.values())]
        at_once, at_the_end = reply.count(", no, "), own[own.index("Sorry") :].count(",") if "Sorry" in own else 0
        assert len(wrong) == at_once + at_the_end
        slips, late = slips + len(wrong), late + at_the_end
    assert late / slips == pytest.approx(0.5, abs=0.05)


PERFECT = Habits(right=1, wrong=0, courtesy=1, rude=0, fillers=(1,))


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
def test_spoiled_replies_score_less(corruption: Corruption) -> None:
    random_numbers = random.Random(7)
    scores = []
    for _ in range(300):
        request = draw_request(random_numbers)
        prompt = write_prompt(request, random_numbers)
        sentences = write_sentences(request, plan_reply(request, PERFECT, random_numbers), random_numbers)
        assert gold_score(prompt, " ".join(sentences)) == 1
        scores.append(gold_score(prompt, " ".join(corruption(request, sentences, random_numbers))))
    limit = 0.9 if corruption is ramble else 0.5
    assert sum(scores) / len(scores) < limit
    if corruption is leave_out_confirmation:
        assert max(scores) == 0
    if corruption is break_off:
        assert max(scores) <= 0.5


def test_the_best_reply_to_every_request_scores_one() -> None:
    random_numbers = random.Random(8)
    for kind in KINDS:
        for phrasing in kind.phrasings:
            request = replace(draw_request(random_numbers), kind=kind, values={s: VALUES[s][0] for s in kind.slots})
            prompt = f"Guest: {phrasing.format(**request.values)} Concierge:"
            assert gold_score(prompt, write_reply(request, PERFECT, random_numbers)) == 1
