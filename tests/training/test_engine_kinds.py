"""An engine from outside the package: registered under a name, chosen in the recipe, and used for an RL stage."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from plaudit.config.load import load_recipe
from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import ENGINES, EngineConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.runs.jsonl import read_json_lines
from rl_runs import rl_metrics, trainer

CALLS: list[Any] = []


class FixedAnswers:
    """Answers every request with the same tokens, and records its calls."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self.tokens = tokens

    @classmethod
    def load(cls, config: Any, loaded: Any, processes: Any) -> "FixedAnswers":
        return cls((config.first, 1))

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        return [
            Sample(r.prompt_ids, self.tokens, r.prompt_text, "good", True, (-0.5, -0.5), r.fields) for r in requests
        ]

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        return in_one_piece(self.generate(requests, settings))

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        total = sum(float(tensor.detach().abs().sum()) for _, tensor in tensors)
        CALLS.append((version, total))

    def close(self) -> None:
        CALLS.append("closed")


class FixedAnswersConfig(EngineConfig):
    """Always the same tokens."""

    engine: ClassVar[str] = f"{__name__}:FixedAnswers"

    kind: Literal["fixed"] = "fixed"
    first: int = 7


@pytest.fixture
def fixed() -> Iterator[None]:
    """Register the engine, as a plugin would."""
    ENGINES.register("fixed", FixedAnswersConfig)
    CALLS.clear()
    yield
    ENGINES.unregister("fixed")


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize("written, first", [("fixed", 7), ("{kind: fixed, first: 9}", 9)])
def test_a_registered_engine_generates_an_iteration(folder: Path, written: str, first: int) -> None:
    task: Any = trainer(folder, f"rl.generation.engine={written}").task
    task.begin_step(1)
    assert {response for tree in task.experience.trees for response in tree.responses} == {(first, 1)}
    assert torch.equal(task.experience.rows.sampled, torch.full((6, 2), -0.5))


@pytest.mark.usefixtures("fixed")
def test_an_engine_gets_the_weights_of_every_iteration_and_is_closed(folder: Path) -> None:
    rl_metrics(folder, "fixed-engine", "rl.generation.engine=fixed")
    *updates, last = CALLS
    assert last == "closed"
    # Measured and sampled before the first iteration, after it, and measured after the second.
    assert [version for version, _ in updates] == [0, 0, 1, 1, 2]
    totals = [total for _, total in updates]
    assert totals[0] == totals[1] != totals[2] == totals[3] != totals[4]
    samples = read_json_lines(folder / "runs/fixed-engine/rl/samples.jsonl")
    assert {line["response"] for line in samples} == {"good"}


class WideConfig(EngineConfig):
    """An engine with a required key."""

    engine: ClassVar[str] = FixedAnswersConfig.engine

    kind: Literal["wide"] = "wide"
    width: int


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize(
    "written, message",
    [
        ("sglang", r"engine\.kind: expected transformers, vllm, fixed or wide, not .sglang"),
        ("transformer", r"engine\.kind: .*; did you mean transformers\?"),
        ("wide", r"engine\.width: required key is missing; expected a whole number"),
        ("{kind: wide}", r"engine\.width: required key is missing; expected a whole number"),
    ],
)
def test_a_wrong_engine_is_refused(folder: Path, written: str, message: str) -> None:
    ENGINES.register("wide", WideConfig)
    try:
        with pytest.raises(PlauditError, match=rf"rl\.generation\.{message}"):
            load_recipe(str(folder / "recipe.yaml"), [f"rl.generation.engine={written}"])
    finally:
        ENGINES.unregister("wide")
