"""The order of the calls that an engine receives."""

from collections.abc import Generator, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.engines.model_engine import ModelEngine
from plaudit.rollouts.samples import Piece, Request, Sample

SETTINGS = GenerationConfig()
MODEL = torch.nn.Linear(1, 1, bias=False)


class Recorder:
    """Keeps the names of the calls, and the weight at every update."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        self.calls.append("generate")
        return []

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        self.calls.append("stream")
        return in_one_piece([])

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        self.calls.append((version, {name: float(value) for name, value in tensors}))

    def close(self) -> None:
        self.calls.append("close")


class Sleeper(Recorder):
    """Returns its memory."""

    def release(self) -> None:
        self.calls.append("release")

    def resume(self) -> None:
        self.calls.append("resume")


def engine_with(recorder: Recorder) -> ModelEngine:
    def make(loaded: Any) -> Recorder:
        assert loaded.model is MODEL
        recorder.calls.append("load")
        return recorder

    loaded: Any = SimpleNamespace(model=MODEL)
    return ModelEngine(make, loaded)


def set_weight(value: float) -> None:
    with torch.no_grad():
        MODEL.weight.fill_(value)


def test_the_engine_starts_at_the_first_update_and_has_the_weights_of_each() -> None:
    recorder = Recorder()
    engine = engine_with(recorder)
    assert recorder.calls == []
    for version, weight in [(0, 2.0), (1, 3.0)]:
        set_weight(weight)
        engine.update(version)
        engine.generate([], SETTINGS)
    list(engine.stream([], SETTINGS))
    engine.close()
    updates = [(0, {"weight": 2.0}), (1, {"weight": 3.0})]
    assert recorder.calls == ["load", updates[0], "generate", updates[1], "generate", "stream", "close"]


@pytest.mark.parametrize("call", ["generate", "stream"])
def test_it_does_not_generate_without_weights(call: str) -> None:
    recorder = Sleeper()
    engine = engine_with(recorder)
    with pytest.raises(RuntimeError, match="call update"):
        getattr(engine, call)([], SETTINGS)
    engine.update(0)
    engine.release()
    with pytest.raises(RuntimeError, match="call update"):
        getattr(engine, call)([], SETTINGS)
    assert not {"generate", "stream"} & set(map(str, recorder.calls))


def test_it_resumes_before_the_update_that_follows_a_release() -> None:
    recorder = Sleeper()
    set_weight(5.0)
    engine = engine_with(recorder)
    engine.update(0)
    engine.release()
    engine.release()  # a second time changes nothing
    engine.update(0)
    engine.update(1)
    update = {"weight": 5.0}
    assert recorder.calls == ["load", (0, update), "release", "resume", (0, update), (1, update)]


def test_an_engine_that_keeps_its_memory_needs_an_update_all_the_same() -> None:
    recorder = Recorder()
    engine = engine_with(recorder)
    engine.update(0)
    engine.release()
    with pytest.raises(RuntimeError, match="call update"):
        engine.generate([], SETTINGS)


def test_it_is_closed_once_and_only_if_it_has_started() -> None:
    recorder = Recorder()
    engine = engine_with(recorder)
    engine.close()
    assert recorder.calls == []
    engine.update(0)
    engine.close()
    engine.close()
    assert recorder.calls.count("close") == 1


def test_an_engine_that_refuses_its_first_weights_is_closed() -> None:
    class Refusing(Recorder):
        def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
            raise RuntimeError("another model")

    recorder = Refusing()
    engine = engine_with(recorder)
    with pytest.raises(RuntimeError, match="another model"):
        engine.update(0)
    with pytest.raises(RuntimeError, match="call update"):
        engine.generate([], SETTINGS)
    engine.close()
    assert recorder.calls == ["load", "close"]
