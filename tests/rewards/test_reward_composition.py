"""Weighted sums of sources, and errors."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch

from plaudit.config.schema import FunctionReward, ModelReward, RewardSourceConfig
from plaudit.data.rows import Origin
from plaudit.errors import PlauditError
from plaudit.plugins import user_code
from plaudit.rewards.sources import ComposedReward, NonFiniteScoreError, build_reward
from plaudit.rollouts.samples import Sample
from reward_samples import sample_of


class FixedSource:
    def __init__(self, name: str, scores: list[float]) -> None:
        self.name = name
        self.scores = scores

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        return torch.tensor(self.scores)


def test_total_is_the_weighted_sum_and_each_source_stays_visible() -> None:
    reward = ComposedReward([FixedSource("taste", [1.0, 2.0]), FixedSource("length", [10.0, 4.0])], [0.5, -0.25])
    scores = reward.score([sample_of("the day", "was good"), sample_of("the day", "was bad")])
    assert scores.total.tolist() == [0.5 - 2.5, 1.0 - 1.0]
    assert {name: each.tolist() for name, each in scores.each.items()} == {"taste": [1.0, 2.0], "length": [10.0, 4.0]}
    assert reward.names == ["taste", "length"]


def test_built_from_a_configuration() -> None:
    config = FunctionReward(name="length", function="reward_samples:lengths", weight=-2.0, batch_size=2)
    samples = [sample_of("the day", response) for response in ("was good", "was very good", "kind")]
    scores = build_reward([config], torch.device("cpu")).score(samples)
    assert scores.total.tolist() == [-4.0, -6.0, -2.0]
    assert scores.each["length"].tolist() == [2.0, 3.0, 1.0]


def test_nothing_to_score() -> None:
    config = FunctionReward(name="length", function="reward_samples:lengths")
    assert build_reward([config], torch.device("cpu")).score([]).total.shape == (0,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_nan_score_names_source_and_response(value: float) -> None:
    reward = ComposedReward([FixedSource("fine", [1.0, 2.0]), FixedSource("broken", [0.0, value])], [1.0, 0.0])
    with pytest.raises(NonFiniteScoreError, match=r"'broken' gave -?(nan|inf) for response 2 of 2, 'was bad'"):
        reward.score([sample_of("the day", "was good"), sample_of("the day", "was bad")])


def test_a_score_that_cannot_be_used_names_the_row_of_its_prompt() -> None:
    samples = [replace(sample_of("the", "day"), origin=Origin("rows.jsonl", line)) for line in (4, 7)]
    for value in (float("nan"), 1e20):
        with pytest.raises(PlauditError, match=r"for response 2 of 2 to rows\.jsonl line 7, 'day'"):
            ComposedReward([FixedSource("broken", [0.0, value])], [1.0]).score(samples)


def test_duplicate_names_are_refused_before_anything_is_loaded() -> None:
    configs = [ModelReward(name="twin", path="/nowhere") for _ in range(2)]
    with pytest.raises(PlauditError, match="two reward sources are named 'twin'"):
        build_reward(configs, torch.device("cpu"))


class OutsideSource:
    """A source of another package; a function of the number of samples computes what it returns."""

    name = "outside"

    def __init__(self, answer: Callable[[int], Any]) -> None:
        self.answer = answer

    def score(self, samples: Sequence[Sample]) -> Any:
        return self.answer(len(samples))


def raises(_: int) -> Any:
    return int("no number")


@pytest.mark.parametrize(
    "answer, message",
    [
        (raises, r"raised ValueError at .*test_reward_composition\.py:\d+: invalid literal"),
        (lambda number: torch.zeros(number + 1), "returned 3 scores for 2 responses"),
        (lambda number: torch.zeros(number, 1), r"returned \[0\.0\] as score 0"),
        (lambda number: ["good"] * number, "returned 'good' as score 0"),
        (lambda number: None, "returned a value of type NoneType: return a list of 2 numbers"),
    ],
)
def test_a_faulty_source_of_another_package_is_named(answer: Callable[[int], Any], message: str) -> None:
    reward = ComposedReward([FixedSource("fine", [1.0, 2.0]), OutsideSource(answer)], [1.0, 1.0])
    with pytest.raises(PlauditError, match=rf"^reward source 'outside': OutsideSource\.score {message}"):
        reward.score([sample_of("the day", "was good"), sample_of("the day", "was bad")])


def test_a_source_of_another_package_may_return_a_list() -> None:
    scores = ComposedReward([OutsideSource(lambda number: [0.5] * number)], [2.0]).score([sample_of("the", "day")])
    assert scores.total.tolist() == [1.0]


def test_running_out_of_memory_in_a_source_of_another_package_stays_what_it_is() -> None:
    def hungry(_: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        ComposedReward([OutsideSource(hungry)], [1.0]).score([sample_of("the", "day")])


class UnloadableSource:
    @classmethod
    def load(cls, config: Any, device: torch.device) -> Any:
        raise OSError("no such file")


class UnloadableReward(RewardSourceConfig):
    source: ClassVar[str] = f"{__name__}:UnloadableSource"
    kind: Literal["unloadable"] = "unloadable"


def test_a_source_of_another_package_that_cannot_be_loaded_is_named() -> None:
    message = (
        r"^reward source 'a': .*:UnloadableSource raised OSError at .*test_reward_composition\.py:\d+: no such file"
    )
    with pytest.raises(PlauditError, match=message):
        build_reward([UnloadableReward(name="a")], torch.device("cpu"))


def test_functions_are_checked_before_models_are_loaded() -> None:
    configs = [ModelReward(name="slow", path="/nowhere"), FunctionReward(name="mine", function="json:missing")]
    with pytest.raises(PlauditError, match=r"^reward source 'mine': "):
        build_reward(configs, torch.device("cpu"))


def test_a_score_too_large_to_learn_from_names_its_source_and_value() -> None:
    class Huge:
        name = "huge"

        def score(self, samples: Sequence[Sample]) -> torch.Tensor:
            return torch.tensor([1.0, -1e20])

    samples = [sample_of("the", "day"), sample_of("the", "night")]
    with pytest.raises(PlauditError, match=r"'huge' gave -1e\+20 for response 2 of 2, 'night': .*; scale them down"):
        ComposedReward([Huge()], [1.0]).score(samples)


@pytest.mark.parametrize("exception", ["SystemExit(0)", "KeyboardInterrupt()", "GeneratorExit()"])
def test_a_function_cannot_end_the_program(exception: str) -> None:
    def ends() -> None:
        raise eval(exception)

    message = r"^place raised \w+ at .*test_reward_composition.py:\d+: "
    with pytest.raises(PlauditError, match=message), user_code("place", ends):
        ends()


def test_ctrl_c_in_a_function_is_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), user_code("place", signal.raise_signal):
        signal.raise_signal(signal.SIGINT)
