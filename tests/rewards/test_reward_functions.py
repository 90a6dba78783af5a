"""Python functions as reward sources."""

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plaudit.packages
from plaudit.config.schema import FunctionReward
from plaudit.errors import PlauditError
from plaudit.plugins import import_function
from plaudit.rewards.function import FunctionSource
from reward_samples import sample_of


def source_of(function: Callable[..., Any], batch_size: int = 64) -> FunctionSource:
    config = FunctionReward(name="taste", function="rewards:taste", batch_size=batch_size)
    return FunctionSource(config, function)


def by_position(questions: list[str], answers: list[str]) -> list[float]:
    return [
        10 * len(question.split()) + len(answer.split()) for question, answer in zip(questions, answers, strict=True)
    ]


def swapped(responses: list[str], prompts: list[str]) -> list[float]:
    return by_position(prompts, responses)


def with_fields(prompts: list[str], responses: list[str], fields: list[Mapping[str, Any]]) -> list[float]:
    return [field["wanted"] for field in fields]


def test_out_of_memory_halves_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []

    def hungry(prompts: list[str], responses: list[str]) -> list[float]:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return by_position(prompts, responses)

    samples = [sample_of("the good day", "was good " * number) for number in range(1, 8)]
    source = source_of(hungry, batch_size=8)
    assert source.score(samples).tolist() == source_of(by_position).score(samples).tolist()
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert "the batch size of reward source 'taste' is now 1" in capsys.readouterr().err


def test_a_function_that_always_runs_out_of_memory() -> None:
    def starving(prompts: list[str], responses: list[str]) -> list[float]:
        raise MemoryError

    with pytest.raises(PlauditError, match=r"reward source 'taste' is 1"):
        source_of(starving).score([sample_of("the", "day")] * 3)


@pytest.mark.parametrize("function", [by_position, swapped])
def test_called_by_name_or_by_position(function: Callable[..., Any]) -> None:
    samples = [
        sample_of("the good day", "was good"),
        sample_of("the night", "was"),
        sample_of("a", "was very not kind"),
    ]
    assert source_of(function, batch_size=2).score(samples).tolist() == [32.0, 21.0, 14.0]


def test_fields_of_the_row_for_functions_that_name_them() -> None:
    samples = [sample_of("the day", "was", wanted=3.5), sample_of("the day", "is", wanted=-1)]
    assert source_of(with_fields).score(samples).tolist() == [3.5, -1.0]


@pytest.mark.parametrize(
    "result", [[1, 0.5], (1, 0.5), torch.tensor([1.0, 0.5]), np.array([1.0, 0.5]), [np.float32(1), np.float64(0.5)]]
)
def test_results_that_are_numbers(result: Any) -> None:
    scores = source_of(lambda prompts, responses: result).score([sample_of("the", "day"), sample_of("the", "night")])
    assert scores.tolist() == [1.0, 0.5]
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    "result, message",
    [
        ([1.0], "returned 1 scores for 2 responses"),
        (1.0, "returned a value of type float: return a list of 2 numbers"),
        ("ab", "returned a value of type str"),
        (None, "returned a value of type NoneType"),
        ([1.0, "good"], "returned 'good' as score 1: return only numbers"),
        ([None, 1.0], "returned None as score 0"),
        (torch.ones(2, 1), r"returned \[1.0\] as score 0"),
    ],
)
def test_other_results_are_refused(result: Any, message: str) -> None:
    samples = [sample_of("the", "day"), sample_of("the", "night")]
    with pytest.raises(PlauditError, match=f"reward source 'taste': rewards:taste {message}"):
        source_of(lambda prompts, responses: result).score(samples)


def test_an_error_inside_the_function_names_its_place() -> None:
    def broken(prompts: list[str], responses: list[str]) -> list[float]:
        return [1 / 0]

    with pytest.raises(PlauditError, match=r"ZeroDivisionError at .*test_reward_functions.py:\d+: division by zero"):
        source_of(broken).score([sample_of("the", "day")])


def test_an_error_in_a_library_names_the_line_in_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reads_json.py").write_text(
        "import json\n\n\ndef parsed(prompts, responses):\n    return helper(responses)\n\n\n"
        "def helper(responses):\n    return [json.loads(text) for text in responses]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    source = FunctionSource.load(FunctionReward(name="taste", function="reads_json:parsed"), torch.device("cpu"))
    with pytest.raises(PlauditError, match=r"'taste': .* raised JSONDecodeError at reads_json\.py:9: Expecting value"):
        source.score([sample_of("the", "day")])


def load(function: str) -> Callable[..., Any]:
    return FunctionSource.load(FunctionReward(name="taste", function=function), torch.device("cpu")).function


def test_a_module_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_rewards.py").write_text("def seven(prompts, responses):\n    return [7] * len(responses)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/elsewhere", *__import__("sys").path])
    assert load("my_own_rewards:seven")([], ["a", "b"]) == [7, 7]


@pytest.mark.parametrize(
    "function, message",
    [
        ("bad_syntax:f", r"SyntaxError at bad_syntax\.py:2"),
        ("fails:f", r"ZeroDivisionError at fails\.py:3"),
        ("no_such_module_here:f", "ModuleNotFoundError.*run from the folder.*next to the recipe"),
        ("json:no_such_name", "does not define no_such_name"),
        ("json:__doc__", "json:__doc__ is of type str; name a function"),
    ],
)
def test_functions_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, message: str
) -> None:
    (tmp_path / "bad_syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "fails.py").write_text("x = 1\n\ny = x / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    with pytest.raises(PlauditError, match=f"reward source 'taste': .*{message}"):
        load(function)


@pytest.mark.parametrize(
    "parameters, accepted",
    [
        ("prompts, responses", True),
        ("responses, prompts", True),
        ("questions, answers", True),
        ("prompts, completions, **kwargs", True),
        ("*texts", True),
        ("prompts, responses, fields", True),
        ("prompts, responses, scale=1", True),
        ("samples", False),
        ("completions, **kwargs", False),
        ("completions, prompts, **kwargs", False),
        ("responses, questions", False),
        ("prompts, responses, scale", False),
        ("", False),
    ],
)
def test_the_parameters_are_checked_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str, accepted: bool
) -> None:
    (tmp_path / "has_parameters.py").write_text(f"def good({parameters}):\n    return [1.0]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.delitem(__import__("sys").modules, "has_parameters", raising=False)
    if accepted:
        assert source_of(load("has_parameters:good")).score([sample_of("the", "day")]).tolist() == [1.0]
        return
    with pytest.raises(PlauditError) as caught:
        load("has_parameters:good")
    message = str(caught.value)
    assert message.startswith(f"reward source 'taste': has_parameters:good({parameters})")
    assert message.endswith("(prompts, responses) or (prompts, responses, fields)")


def test_columns_are_passed_as_lists() -> None:
    def scored(prompts: list[str], responses: list[str], prompt: str = "", **columns: list[Any]) -> list[float]:
        assert "prompts" not in columns
        return [10.0 * (a or 0) + len(b or "") for a, b in zip(columns["wanted"], columns["unit"], strict=True)]

    samples = [sample_of("the", "day", wanted=2, unit="kg"), sample_of("the", "day", wanted=3, prompts="no")]
    assert source_of(scored).score(samples).tolist() == [22.0, 30.0]


def test_vader_distinguishes_good_from_bad() -> None:
    pytest.importorskip("vaderSentiment")
    from plaudit.rewards.sentiment import vader_compound

    scores = vader_compound(
        ["awful", "lovely", ""], ["VADER is smart, handsome, and funny.", "The book was kind of good.", "."]
    )
    assert scores == [0.8316, 0.3832, 0.0]  # first two: the examples in VADER's own README


def test_missing_vader_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the function is imported, which is before the first stage of a run."""

    def version(name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(plaudit.packages, "version", version)
    monkeypatch.delitem(sys.modules, "plaudit.rewards.sentiment", raising=False)
    with pytest.raises(PlauditError, match=r"^rl: VADER needs vaderSentiment.*pip install .plaudit\[stories\]"):
        import_function("plaudit.rewards.sentiment:vader_compound", "rl")
