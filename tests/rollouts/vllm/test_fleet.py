"""Several servers, and servers that sleep."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from fake_vllm import Answer, FakeVllm
from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import LoadedModel
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.model_engine import configured_engine
from plaudit.rollouts.engines.vllm import client
from plaudit.rollouts.engines.vllm.client import Client
from vllm_engines import CPU, GENERATE, differences, engine_at, fresh_policy, requests

SETTINGS = GenerationConfig(max_new_tokens=8)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return fresh_policy(tmp_path)


@pytest.fixture
def servers(loaded: LoadedModel, tmp_path: Path) -> Iterator[list[FakeVllm]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeVllm(tmp_path)) for _ in range(3)]


def test_samples_do_not_depend_on_the_number_of_servers(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    for count in (1, 2, 3):
        assert not differences([server.url for server in servers[:count]], loaded, SETTINGS), count


def test_requests_are_spread_evenly(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    engine = engine_at([server.url for server in servers], loaded)
    engine.update(0)
    probed = [server.calls.count(GENERATE) for server in servers]
    assert probed == [4, 4, 4], "each server is checked with all samples"
    engine.generate(requests(), SETTINGS)
    assert [server.calls.count(GENERATE) for server in servers] == [6, 5, 5]
    engine.close()


def test_a_slow_server_gets_one_batch_while_another_answers_the_rest(
    loaded: LoadedModel, servers: list[FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = servers[:2]
    engine = engine_at([slow.url, fast.url], loaded)
    engine.update(0)
    settings = SETTINGS.model_copy(update={"batch_size": 2})
    expected = engine.generate(requests() * 3, settings)
    fast.calls.clear()
    rest_is_done, waited = Event(), []

    def answer_last(path: str, body: Any) -> Answer:
        waited.append(rest_is_done.wait(timeout=10))
        return FakeVllm.answer(slow, path, body)

    def answer(path: str, body: Any) -> Answer:
        found = FakeVllm.answer(fast, path, body)
        if len(fast.calls) == 10:
            rest_is_done.set()
        return found

    monkeypatch.setattr(slow, "answer", answer_last)
    monkeypatch.setattr(fast, "answer", answer)
    assert engine.generate(requests() * 3, settings) == expected
    assert waited == [True, True]
    engine.close()


@pytest.mark.parametrize("broken", [0, 2])
def test_each_server_is_checked(loaded: LoadedModel, servers: list[FakeVllm], broken: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(servers[broken], "apply", lambda: None)
    engine = engine_at([server.url for server in servers], loaded)
    with pytest.raises(PlauditError, match=rf"{servers[broken].url}{GENERATE} .*differ from the model's"):
        engine.update(0)
    engine.close()


def test_a_server_that_dies_is_named(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    engine = engine_at([server.url for server in servers], loaded)
    engine.update(0)
    servers[1].stop()
    with pytest.raises(PlauditError, match=rf"{servers[1].url}{GENERATE} got no answer") as caught:
        engine.generate(requests(), SETTINGS)
    assert "\n" not in str(caught.value)
    engine.close()


def test_a_server_whose_engine_died_is_named_before_the_timeout(monkeypatch: Any) -> None:
    class Server(Client):
        is_alive = True

        def post(self, path: str, body: Any = None) -> Any:
            time.sleep(0.2 if self.is_alive else 2)

        def is_healthy(self) -> bool:
            return self.is_alive

    monkeypatch.setattr(client, "HEALTH_INTERVAL", 0.05)
    alive, dead = Server("http://a", 9, ""), Server("http://b", 9, "")
    assert client.post_to_all([alive, alive], "/pause") == [None, None]
    dead.is_alive = False
    with pytest.raises(PlauditError, match=r"http://b/pause got no answer.*no longer healthy"):
        client.post_to_all([alive, dead], "/pause")


def test_sleeping_servers_return_their_weights_and_get_them_again(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    engine = engine_at([server.url for server in servers[:2]], loaded, sleep=True)
    engine.update(0)
    awake = engine.generate(requests(), SETTINGS)
    engine.release()
    for server in servers[:2]:
        assert server.is_asleep
        assert not any(weight.any() for weight in server.model.parameters())
        assert server.answer(GENERATE, {})[0] == 500
    engine.update(0)
    assert engine.generate(requests(), SETTINGS) == awake
    path = [path for path in servers[0].calls if "sleep" in path or "wake" in path]
    assert path == ["/wake_up", "/sleep?level=2&mode=wait", "/wake_up"]
    assert [version.rpartition("-")[2] for version in servers[0].applied] == ["0", "0"], "sent again"
    engine.close()


def test_servers_that_an_earlier_run_left_asleep_are_woken(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    found = []
    for _ in range(2):
        engine = engine_at(servers[0].url, loaded, sleep=True)
        engine.update(0)
        found.append(engine.generate(requests(), SETTINGS))
        engine.release()
        engine.close()
        assert servers[0].is_asleep
    assert found[0] == found[1]


def test_servers_that_are_not_told_to_sleep_keep_their_weights(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    engine = engine_at(servers[0].url, loaded)
    engine.update(0)
    servers[0].calls.clear()
    engine.release()
    engine.update(0)
    assert servers[0].calls == []
    engine.close()


def test_a_server_that_cannot_sleep_is_refused(loaded: LoadedModel, servers: list[FakeVllm]) -> None:
    servers[1].can_sleep = False
    with pytest.raises(PlauditError, match=rf"{servers[1].url}/server_info.* --enable-sleep-mode"):
        engine_at([server.url for server in servers], loaded, sleep=True).update(0)


def test_sleep_is_refused_on_a_cpu(tmp_path: Path) -> None:
    loaded = fresh_policy(tmp_path, hidden_size=64)
    config = VllmEngineConfig(python="/no/such/python", sleep=True)
    with pytest.raises(PlauditError, match=r"engine\.sleep: .*CPU; remove"):
        configured_engine(config, loaded, OneProcess(CPU)).update(0)


def test_each_server_has_its_own_value_of_a_listed_variable() -> None:
    config = VllmEngineConfig(python="python", servers=2, environment={"A": "all", "B": ["first", "second"]})
    assert [config.environment_of(number) for number in (0, 1)] == [
        {"A": "all", "B": "first"},
        {"A": "all", "B": "second"},
    ]


@pytest.mark.parametrize(
    "section, message",
    [
        ({"python": "p", "servers": 3, "environment": {"B": ["0", "1"]}}, "has 2 values for 3 servers"),
        ({"url": ["http://a", "http://a"]}, "each once"),
        ({"url": []}, "at least one"),
        ({"url": ["http://a", "http://b"], "servers": 2}, "already started"),
    ],
)
def test_wrong_numbers_of_servers_are_errors(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VllmEngineConfig.model_validate(section)
