"""Whatever a function, a service or a classifier answers, scores are finite numbers or one line names the fault."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plaudit.config.schema import ClassifierReward, FunctionReward, HttpReward
from plaudit.data.rows import Origin
from plaudit.errors import PlauditError
from plaudit.rewards.endpoint import EndpointSource
from plaudit.rewards.function import FunctionSource
from plaudit.rewards.sources import ComposedReward, RewardSource, build_reward
from plaudit.rollouts.samples import Sample
from reward_samples import save_classifier

SAMPLES = [
    Sample((1,), (2,), "p", text, True, origin=Origin("rows.jsonl", line)) for line, text in ((3, "a"), (8, "b"))
]
NAN, INF = float("nan"), float("inf")
USABLE: list[Any] = [
    [1, 2],
    (0.5, -1.0),
    [True, False],
    [np.True_, np.False_],
    np.array([True, False]),
    torch.tensor([True, False]),
    np.array([1.0, 2.0]),
    np.array([1, 2], dtype=np.int8),
    torch.tensor([1.0, 2.0], dtype=torch.float16),
    [np.float32(1), Fraction(1, 3)],
]
UNUSABLE: list[tuple[Any, str]] = [
    ([0.0, NAN], "gave nan for response 2 of 2 to rows.jsonl line 8, 'b'"),
    ([INF, 0.0], "gave inf for response 1 of 2 to rows.jsonl line 3, 'a'"),
    ([0.0, -INF], "gave -inf for response 2 of 2 to rows.jsonl line 8"),
    (np.array([NAN, 1.0]), "gave nan for response 1 of 2 to rows.jsonl line 3"),
    (torch.tensor([NAN, NAN]), "gave nan for response 1 of 2 to rows.jsonl line 3"),
    ([0.0, 1e20], "gave 1e+20 for response 2 of 2 to rows.jsonl line 8"),
    ([0.0, 10**400], "a number beyond floats as score 1"),
    ([1e300, 0.0], "gave inf for response 1 of 2 to rows.jsonl line 3"),
    ([0.0, None], "returned None as score 1"),
    ([0.0, "1"], "returned '1' as score 1"),
    ([0.0, "nan"], "returned 'nan' as score 1"),
    ([0.5, True], "returned True as score 1: return 1 and 0"),
    ([np.True_, 0.5], "returned np.True_ as score 0: return 1 and 0"),
    (["True", "False"], "returned 'True' as score 0"),
    ([0.0, 1j], "returned 1j as score 1"),
    ([0.0, Decimal("NaN")], "returned Decimal('NaN') as score 1"),
    ([[0.0], [1.0]], "returned [0.0] as score 0"),
    (np.array([[0.0], [1.0]]), "returned [0.0] as score 0"),
    (torch.tensor([0.0, 1.0], dtype=torch.complex64), "returned 0j as score 0"),
    ([1.0], "returned 1 scores for 2 responses"),
    ([1.0, 2.0, 3.0], "returned 3 scores for 2 responses"),
    ([], "returned 0 scores for 2 responses"),
    (None, "a value of type NoneType"),
    (1.0, "a value of type float"),
    (np.float64(1.0), "a value of type float"),
    ("12", "a value of type str"),
    (b"12", "a value of type bytes"),
    ({0: 1.0, 1: 2.0}, "a value of type dict"),
    ({1.0, 2.0}, "a value of type set"),
    (iter([1.0, 2.0]), "a value of type list_iterator"),
]
BODIES: list[tuple[bytes, str]] = [
    (b'{"scores": [0.0, NaN]}', "gave nan for response 2 of 2 to rows.jsonl line 8"),
    (b'{"scores": [Infinity, 0]}', "gave inf for response 1 of 2 to rows.jsonl line 3"),
    (b'{"scores": [0, 1e999]}', "gave inf for response 2 of 2 to rows.jsonl line 8"),
    (b'{"scores": [0, 1' + b"0" * 4000 + b"]}", "a number beyond floats as score 1"),
    (b'{"scores": [0, 1' + b"0" * 5000 + b"]}", "the answer must be JSON"),
    (b'{"scores": [0, null]}', "returned None as score 1"),
    (b'{"scores": [true, false]}', "returned True as score 0: return 1 and 0 for true and false"),
    (b'{"scores": [0, true]}', "returned True as score 1"),
    (b'{"scores": ["0.5", "1"]}', "returned '0.5' as score 0"),
    (b'{"scores": {"0": 1, "1": 2}}', "a value of type dict"),
    (b'{"scores": [[1], [2]]}', "returned [1] as score 0"),
    (b'{"scores": "12"}', "a value of type str"),
    (b'{"score": [1, 2]}', "the answer must be {"),
    (b"[1, 2]", "the answer must be {"),
    (b"", "the answer must be JSON"),
    (b"\xff\xfe", "the answer must be JSON"),
    (b"\x00", "the answer must be JSON"),
    (b"[" * 100_000, "the answer must be JSON"),
    (b"<html>busy</html>", "the answer must be JSON"),
]
TEXTS = [
    "",
    " ",
    "\n\r\x00\x1b[2J",
    "\u202e\ufeff",
    "[PAD] [EOS]",
    "今天天气很好",
    "สวัสดี",
    "👍🏽" * 50,
    "good " * 5000,
]


def line_of(source: RewardSource) -> str:
    with pytest.raises(PlauditError) as refused:
        ComposedReward([source], [1.0]).score(SAMPLES)
    line = str(refused.value)
    assert line.startswith("reward source 'mine'")
    assert line.isprintable(), "one line, which a terminal shows as it is"
    return line


def function(answer: Any) -> FunctionSource:
    config = FunctionReward(name="mine", function="a:b")
    return FunctionSource(config, lambda prompts, responses: answer)


@pytest.mark.parametrize("answer", USABLE, ids=repr)
def test_numbers_of_any_kind_are_scores(answer: Any) -> None:
    scores = ComposedReward([function(answer)], [1.0]).score(SAMPLES).total
    torch.testing.assert_close(scores, torch.tensor([float(value) for value in answer]))


@pytest.mark.parametrize("answer, fault", UNUSABLE, ids=[fault for _, fault in UNUSABLE])
def test_answers_of_functions(answer: Any, fault: str) -> None:
    assert fault in line_of(function(answer))


@pytest.mark.parametrize("body, fault", BODIES, ids=[repr(body[:30]) for body, _ in BODIES])
def test_answers_of_services(monkeypatch: pytest.MonkeyPatch, body: bytes, fault: str) -> None:
    monkeypatch.setattr(EndpointSource, "_post", lambda self, texts: body)
    assert fault in line_of(EndpointSource(HttpReward(name="mine", kind="http", url="http://localhost:1")))


def test_texts_of_any_kind_get_finite_scores(tmp_path: Path) -> None:
    config = ClassifierReward(name="mine", path=save_classifier(tmp_path, ["sad", "glad"]), label="glad")
    reward = build_reward([config], torch.device("cpu"))
    samples = [Sample((1,), (2,), prompt, response, True) for prompt in ("", "the ") for response in TEXTS]
    assert reward.score(samples).total.isfinite().all()
    assert vars(reward.take_counts()["mine"]) == {"texts": len(samples), "truncated": 2}


@pytest.mark.parametrize("weight", [1e3, -1e3])
def test_a_weighted_score_beyond_the_limit_names_the_source(weight: float) -> None:
    with pytest.raises(PlauditError, match=r"'mine': weight -?1000 times its score is ±5e\+11; .*; lower the weight"):
        ComposedReward([function([0.0, 5e8])], [weight]).score(SAMPLES)
