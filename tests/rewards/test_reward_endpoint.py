"""HTTP reward sources, against a server in a thread."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from plaudit.config.schema import HttpReward
from plaudit.errors import PlauditError
from plaudit.rewards.endpoint import ATTEMPTS, LONGEST_PAUSE, EndpointSource
from reward_samples import sample_of


class Service:
    """Answers with ``status`` and ``body``; without a body, with the word counts of prompt and response."""

    def __init__(self) -> None:
        self.requests: list[dict[str, list[str]]] = []
        self.body: bytes | None = None
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.authorizations: list[str | None] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.requests.append(texts)
                service.authorizations.append(self.headers["Authorization"])
                pairs = zip(texts["prompts"], texts["responses"], strict=True)
                scores = [10 * len(prompt.split()) + len(response.split()) for prompt, response in pairs]
                self.send_response(service.statuses.pop(0) if service.statuses else 200)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(service.body or json.dumps({"scores": scores}).encode())

            def log_message(self, *arguments: Any) -> None:
                """Log nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("no_proxy", "*")
    service = Service()
    service.thread.start()
    yield service
    service.server.shutdown()
    service.thread.join()
    service.server.server_close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    return waited


def source_of(url: str, **options: Any) -> EndpointSource:
    return EndpointSource(HttpReward(name="remote", url=url, **options))


def test_scores_in_batches(service: Service) -> None:
    samples = [sample_of("the good day", "was good"), sample_of("the night", "was"), sample_of("a", "is not kind")]
    assert source_of(service.url, batch_size=2).score(samples).tolist() == [32.0, 21.0, 13.0]
    assert service.requests == [
        {"prompts": ["the good day", "the night"], "responses": ["was good", "was"]},
        {"prompts": ["a"], "responses": ["is not kind"]},
    ]


def test_server_errors_are_retried(service: Service, pauses: list[float]) -> None:
    service.statuses = [503, 500]
    assert source_of(service.url).score([sample_of("the", "day")]).tolist() == [11.0]
    assert len(service.requests) == 3
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_sets_the_pause(service: Service, pauses: list[float], status: int) -> None:
    service.statuses, service.headers = [status], {"Retry-After": "7"}
    assert source_of(service.url).score([sample_of("the", "day")]).tolist() == [11.0]
    assert pauses == [7.0]


@pytest.mark.parametrize("asked, waited", [("9999", LONGEST_PAUSE), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5)])
def test_pauses_are_bounded_and_dates_are_not_read(
    service: Service, pauses: list[float], asked: str, waited: float
) -> None:
    service.statuses, service.headers = [429], {"Retry-After": asked}
    source_of(service.url).score([sample_of("the", "day")])
    assert pauses == [waited]


def test_the_authorization_comes_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "Bearer 12345")
    source_of(service.url, authorization="JUDGE_KEY").score([sample_of("the", "day")])
    source_of(service.url).score([sample_of("the", "day")])
    assert service.authorizations == ["Bearer 12345", None]
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(PlauditError, match=r"'remote': .*JUDGE_KEY is not set; export it"):
        source_of(service.url, authorization="JUDGE_KEY")


def test_attempts_are_bounded(service: Service) -> None:
    service.statuses = [503] * 20
    with pytest.raises(PlauditError, match=rf"'remote': {service.url} answered status 503.*tried {ATTEMPTS} times"):
        source_of(service.url).score([sample_of("the", "day")])
    assert len(service.requests) == ATTEMPTS


def test_client_errors_are_not_retried(service: Service, pauses: list[float]) -> None:
    service.statuses, service.body = [422], b"no such field"
    with pytest.raises(PlauditError, match=f"'remote': {service.url} answered status 422: no such field"):
        source_of(service.url).score([sample_of("the", "day")])
    assert (len(service.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    "body, message",
    [
        (b"<html>", "the answer must be JSON"),
        (b"[1, 2]", "the answer must be"),
        (b'{"score": [1]}', "the answer must be"),
        (b'{"scores": [1]}', "returned 1 scores for 2 responses"),
        (b'{"scores": [1, null]}', "returned None as score 1"),
    ],
)
def test_wrong_answers(service: Service, body: bytes, message: str) -> None:
    service.body = body
    with pytest.raises(PlauditError, match=f"'remote': {service.url} .*{message}"):
        source_of(service.url).score([sample_of("the", "day"), sample_of("the", "night")])


def test_no_service_at_the_url(pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(PlauditError, match=f"'remote': {url} cannot be reached .*Connection refused"):
        source_of(url).score([sample_of("the", "day")])
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(PlauditError, match=r"cannot be reached .*timed out"):
            source_of(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05).score([sample_of("the", "day")])


def test_only_http_addresses() -> None:
    with pytest.raises(PlauditError, match="must begin with http"):
        source_of("file:///etc/hostname")
