"""HTTP reward sources, against a server in a thread."""

import contextlib
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from pydantic import ValidationError

from plaudit.config.schema import HttpReward
from plaudit.errors import PlauditError
from plaudit.rewards.endpoint import ATTEMPTS, LARGEST_ANSWER, LONGEST_PAUSE, EndpointSource
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


def test_retries_are_announced(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.statuses, service.headers = [503, 429], {"Retry-After": "100000"}
    source_of(service.url).score([sample_of("the", "day")])
    assert [message.partition("/score ")[2].split(":")[0] for message in caplog.messages] == [
        "answered status 503",
        "answered status 429",
    ]
    assert all(message.endswith("; trying again in 60 seconds") for message in caplog.messages)


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
        with pytest.raises(PlauditError, match=r"did not answer completely within 0.05 seconds|timed out"):
            source_of(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05).score([sample_of("the", "day")])


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "http://",
        "http://a:x",
        "http://a:99999",
        "http://[::1",
        "http://a b",
        "http://a\x00",
        "httq://a",
    ],
)
def test_only_addresses_that_can_be_requested(url: str) -> None:
    with pytest.raises(ValidationError, match="not an address that can be requested"):
        source_of(url)


def answering(reply: bytes, pause: float = 0.0) -> tuple[str, socket.socket]:
    """Return the address of a server that sends ``reply`` to everyone, byte by byte with a pause, and its socket."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    for part in [reply[i : i + 1] for i in range(len(reply))] if pause else [reply]:
                        connection.sendall(part)
                        Event().wait(pause)  # time.sleep is replaced

    Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}", listening


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"Content-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"\x00" * 50,
        b"",
    ],
)
def test_answers_that_are_not_http_are_retried_and_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    url, listening = answering(reply)
    with (
        listening,
        pytest.raises(PlauditError, match=rf"'remote': {url} cannot be reached .*tried {ATTEMPTS} times") as error,
    ):
        source_of(url).score([sample_of("the", "day")])
    assert "\n" not in str(error.value)


def test_an_answer_that_drips_is_given_up_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    url, listening = answering(HEAD + b"Content-Length: 9000\r\n\r\n" + b" " * 9000, pause=0.05)
    with listening, pytest.raises(PlauditError, match="did not answer completely within 1 seconds"):
        source_of(url, timeout=1).score([sample_of("the", "day")])


@pytest.mark.parametrize(
    "body, message",
    [
        (b" " * (LARGEST_ANSWER + 1), f"more than {LARGEST_ANSWER} bytes"),
        (b"[" * 100_000, "the answer must be JSON"),
        (b"\xff", "the answer must be JSON"),
        (b'{"scores": [1' + b"0" * 400 + b"]}", "beyond floats as score 0"),
    ],
)
def test_hostile_answers(service: Service, body: bytes, message: str) -> None:
    service.body = body
    with pytest.raises(PlauditError, match=message):
        source_of(service.url).score([sample_of("the", "day")])


def test_secrets_of_the_address_are_in_no_message(service: Service) -> None:
    service.statuses = [404]
    url = service.url.replace("http://", "http://me:secret1@") + "?key=secret2#secret3"
    with pytest.raises(PlauditError) as error:
        source_of(url).score([sample_of("the", "day")])
    assert "secret" not in str(error.value)
    assert "***@127.0.0.1" in str(error.value)
    with pytest.raises(PlauditError, match="were masked when the run was written"):
        source_of("http://***@judge/score")


@pytest.mark.parametrize("status", [401, 200])
def test_an_answer_that_repeats_a_secret_is_masked(
    service: Service, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "Bearer secret1")
    service.statuses = [status]
    service.body = b"x" * 190 + b" key secret2, not Bearer secret1, secret1 or me:secret3"
    url = service.url.replace("http://", "http://me:secret3@") + "?key=secret2"
    with pytest.raises(PlauditError, match=r"xxx key \*\*\*,") as error:
        source_of(url, authorization="JUDGE_KEY").score([sample_of("the", "day")])
    assert "secre" not in str(error.value)


@pytest.mark.parametrize("value", ["Bearer a\n", "Bearer ä", " a"])
def test_an_authorization_that_no_header_can_have(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(PlauditError, match=r"JUDGE_KEY holds .*; export the bare value") as error:
        source_of("http://judge", authorization="JUDGE_KEY")
    assert "Bearer" not in str(error.value)
