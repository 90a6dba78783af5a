"""Requests to a server. Every failure is a PlauditError that names the server and what to look at."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

from plaudit.errors import PlauditError, one_line

SHOWN = 300  # characters of an answer in an error message
OK = 200
HEALTH_INTERVAL = 5  # seconds without an answer until the servers' health is looked at


class Client:
    """Sends requests to one server; threads may share it. ``remedy`` ends every error message."""

    def __init__(self, url: str, timeout: float, remedy: str) -> None:
        import httpx2

        if not url.startswith(("http://", "https://")):
            raise PlauditError(f"engine.url: {url} is not a URL; it must begin with http:// or https://")
        self.url, self.remedy = url.rstrip("/"), remedy
        unlimited = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        # No proxy: the server is on this machine.
        self._http = httpx2.Client(base_url=self.url, timeout=timeout, limits=unlimited, trust_env=False)
        self._transport_error = httpx2.TransportError

    @property
    def host(self) -> str:
        """The server's name or address, without the port."""
        return urlsplit(self.url).hostname or ""

    def post(self, path: str, body: Any = None) -> Any:
        """Return the JSON answer; None if it is empty.

        Raises PlauditError if the server cannot be reached, answers another status than 200, or no JSON.
        """
        return self._ask("POST", path, body)

    def get(self, path: str) -> Any:
        """Return the JSON answer to a request without a body; raises as ``post`` does."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except self._transport_error as error:
            raise self.error(path, f"got no answer ({one_line(error)})") from error
        if response.status_code != OK:
            text = " ".join(response.text.split())[:SHOWN]
            raise self.error(path, f"was answered with status {response.status_code}: {text}")
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise self.error(path, f"was answered with {response.content[:SHOWN]!r}, which is not JSON") from error

    def is_healthy(self) -> bool:
        """Whether the server answers and says that it can generate."""
        try:
            return bool(self._http.get("/health").status_code == OK)
        except self._transport_error:
            return False

    def error(self, path: str, problem: str) -> PlauditError:
        """Return an error about a request."""
        return PlauditError(f"vLLM: {self.url}{path} {problem}; {self.remedy}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def post_to_all(clients: Sequence[Client], path: str, body: Any = None) -> list[Any]:
    """Return the answers of all servers, which work at the same time; raises the first error when it comes."""
    return post_each(clients, path, [body] * len(clients))


def post_each(clients: Sequence[Client], path: str, bodies: Sequence[Any]) -> list[Any]:
    """Send each server its own body; otherwise as ``post_to_all``."""
    pool = ThreadPoolExecutor(len(clients))
    answers = [pool.submit(client.post, path, body) for client, body in zip(clients, bodies, strict=True)]
    pool.shutdown(wait=False)
    waiting = dict(zip(answers, clients, strict=True))
    while waiting:
        done, _ = wait(waiting, HEALTH_INTERVAL, FIRST_COMPLETED)
        for answer in done:
            answer.result()
            del waiting[answer]
        for client in () if done else waiting.values():
            if not client.is_healthy():  # its engine died, and nothing in it answers the request
                raise client.error(path, "got no answer, and the server is no longer healthy")
    return [answer.result() for answer in answers]
