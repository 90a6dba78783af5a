"""Requests to a server. Every failure is a PlauditError that names the server and what to look at."""

from typing import Any

from plaudit.errors import PlauditError, one_line

SHOWN = 300  # characters of an answer in an error message
OK = 200


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

    def post(self, path: str, body: Any = None) -> Any:
        """Return the JSON answer; None if it is empty.

        Raises PlauditError if the server cannot be reached, answers another status than 200, or no JSON.
        """
        try:
            response = self._http.post(path, json=body)
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
