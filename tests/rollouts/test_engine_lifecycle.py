"""An engine is built once, gets weights before it generates, and is closed once by its creator, also after an error."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor
from typer.testing import CliRunner

from evaluation_world import ALONE, make_config
from plaudit.cli.main import app
from plaudit.config.load import load_recipe
from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import TransformersEngineConfig
from plaudit.data.store.cache import DataCache
from plaudit.evaluation import answers
from plaudit.evaluation.compare import evaluate
from plaudit.rewards.sources import ComposedReward
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request, Sample
from plaudit.runner import run
from plaudit.serving.targets import find_target, open_chat_model
from rl_runs import rl_metrics
from tiny_runs import tiny_recipe


class CountedEngine(TransformersEngine):
    """Counts how often it is built and closed; fails from call ``fails_from`` of ``generate`` on.

    It has no weights at the start and after every ``release``: generating then fails until it has new ones.
    """

    built: int
    closed: int
    calls: int
    fails_from: int
    versions: ClassVar[list[int]]
    released: int
    has_memory: bool

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        CountedEngine.built += 1
        CountedEngine.has_memory, self.has_weights = True, False

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        assert self.has_weights, "generate came before update_weights"
        CountedEngine.calls += 1
        if CountedEngine.calls >= CountedEngine.fails_from:
            raise RuntimeError("the engine broke")
        return super().generate(requests, settings)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        assert self.has_memory, "update_weights came before resume"
        CountedEngine.versions.append(version)
        self.has_weights = True

    def release(self) -> None:
        CountedEngine.released += 1
        assert self.has_memory
        CountedEngine.has_memory = self.has_weights = False

    def resume(self) -> None:
        assert not self.has_memory
        CountedEngine.has_memory = True

    def close(self) -> None:
        CountedEngine.closed += 1


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return, for every computation of rewards or log-probabilities, whether the engine had memory."""
    found: list[bool] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            found.append(CountedEngine.has_memory)
            return original(*given, **named)

        monkeypatch.setattr(owner, name, watched)

    watch(ComposedReward, "score")
    watch(answers, "token_log_probabilities")
    return found


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransformersEngineConfig, "engine", f"{__name__}:CountedEngine")
    start = {"built": 0, "closed": 0, "calls": 0, "fails_from": 10**6, "versions": [], "released": 0}
    for name, value in start.items():
        monkeypatch.setattr(CountedEngine, name, value, raising=False)


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the engine's first call fail; every test that uses this must observe the failure."""
    monkeypatch.setattr(CountedEngine, "fails_from", 1)
    yield
    assert CountedEngine.calls == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``recipe.yaml`` and the models of sft and reward."""
    folder = tmp_path_factory.mktemp("lifecycle")
    run(load_recipe(str(tiny_recipe(folder))), ["pretrain", "sft", "reward"])
    return folder


def run_stage(folder: Path, stage: str, **changes: Any) -> None:
    recipe = tiny_recipe(folder, **changes)
    run(load_recipe(str(recipe)), [stage], restart=True)


def test_reinforcement_learning(folder: Path) -> None:
    run_stage(folder, "rl")
    assert (CountedEngine.built, CountedEngine.closed) == (1, 1)
    # Measured and sampled before the first iteration and after it, and measured after the second.
    assert CountedEngine.versions == [0, 0, 1, 1, 2]
    assert CountedEngine.released == 5


def test_rewards_of_sampled_and_greedy_responses_are_computed_without_the_engine(
    folder: Path, beside: list[bool]
) -> None:
    rl_metrics(folder, "greedy", "rl.advantages=remax", "rl.evaluate_every=2")
    assert CountedEngine.versions == [0, 0, 1, 2]
    assert beside == [False] * (2 + 2 * 2)


def test_a_refill_gets_the_engine_back_before_rewards_are_computed_without_it(folder: Path, beside: list[bool]) -> None:
    """At this temperature the responses to a prompt, and so their scores, are equal."""
    options = ["rl.generation={max_new_tokens: 1, temperature: 0.001}", "rl.responses_per_prompt=2"]
    rl_metrics(folder, "refill", "rl.advantages=rloo", "rl.dynamic_sampling=1", "rl.evaluate_every=2", *options)
    assert CountedEngine.versions == [0, 0, 0, 1, 1, 2]
    assert beside == [False] * (2 + 2 * 2)


@pytest.mark.usefixtures("breaks")
def test_reinforcement_learning_that_fails(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="the engine broke"):
        run_stage(folder, "rl")
    assert (CountedEngine.built, CountedEngine.closed) == (1, 1)


def test_sample_completions(folder: Path) -> None:
    run_stage(folder, "dpo")
    assert (CountedEngine.built, CountedEngine.closed, CountedEngine.calls) == (1, 1, 3)
    assert CountedEngine.versions == [0, 4, 5]  # before the first step, after the fourth and after the last


@pytest.mark.usefixtures("breaks")
def test_sample_completions_that_fail(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="the engine broke"):
        run_stage(folder, "dpo")
    assert (CountedEngine.built, CountedEngine.closed) == (1, 1)


def test_evaluation(tmp_path: Path, beside: list[bool]) -> None:
    evaluate(make_config(tmp_path), tmp_path, seed=3, processes=ALONE, simulated=False, cache=DataCache(tmp_path))
    assert (CountedEngine.built, CountedEngine.closed) == (2, 2)
    assert CountedEngine.versions == [0, 0]
    assert beside == [False] * 6, "two models: rewards, own log-probabilities, and those of the reference"


@pytest.mark.usefixtures("breaks")
def test_evaluation_that_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the engine broke"):
        evaluate(make_config(tmp_path), tmp_path, seed=3, processes=ALONE, simulated=False, cache=DataCache(tmp_path))
    assert (CountedEngine.built, CountedEngine.closed) == (1, 1)


def test_chat(folder: Path) -> None:
    model = str(folder / "runs/tiny/sft/model")
    result = CliRunner().invoke(
        app, ["chat", model, "--plain", "--max-new-tokens", "3", "--device", "cpu"], input="w1\n"
    )
    assert result.exit_code == 0
    assert (CountedEngine.built, CountedEngine.closed, CountedEngine.calls) == (1, 1, 1)
    assert CountedEngine.versions == [0]


def test_chat_that_fails_to_start(folder: Path) -> None:
    target = find_target(str(folder / "runs/tiny/sft/model"))
    settings = target.chat_settings(best_of=1, seed=0, plain=True, changes={"max_new_tokens": 64})
    with pytest.raises(Exception, match="max-new-tokens"):
        open_chat_model(target, settings, device="cpu")
    assert (CountedEngine.built, CountedEngine.closed) == (1, 1)
