"""An HTTP service as a reward source: POST {"prompts": [...], "responses": [...]}, answered by {"scores": [...]}."""

import json
import logging
import os
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import torch

from plaudit.config.schema import HttpReward
from plaudit.config.secrets import MASK, mask_in_text
from plaudit.errors import PlauditError
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from httpx2 import Response
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

ATTEMPTS = 5
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long, unless the service sets ``Retry-After``."""
LONGEST_PAUSE = 60.0
"""Upper limit of a pause in seconds, also for ``Retry-After``."""
TOO_MANY_REQUESTS = 429
SHORTEST_SECRET = 4
"""Characters: shorter texts of an address are not hidden in answers."""
LARGEST_SHOWN = 10_000
"""Bytes of an answer from which the text of a message is made."""
LARGEST_ANSWER = 16 * 2**20
"""Bytes of an answer; the scores of a batch need far fewer."""


class _TemporaryError(Exception):
    """An error worth a retry: the service is busy, has failed, or could not be reached."""

    def __init__(self, problem: str, pause: float | None = None) -> None:
        super().__init__(problem)
        self.pause = pause


class EndpointSource:
    """Scores responses with an HTTP service.

    Failed connections, answers that are not complete after ``timeout`` seconds, server errors (status 5xx) and status
    429 are retried, up to ``ATTEMPTS`` attempts. The header ``Retry-After`` sets the pause in seconds; without it,
    pauses grow from attempt to attempt.
    """

    def __init__(self, config: HttpReward) -> None:
        import httpx2

        self.name = config.name
        self.url = config.url
        self.batch_size = config.batch_size
        self.timeout = config.timeout
        self.place = f"reward source {config.name!r}: {mask_in_text(config.url)}"
        if MASK in config.url:
            raise PlauditError(
                f"{self.place}: secrets of this address were masked when the run was written; use the original recipe"
            )
        headers = {"Accept-Encoding": "identity", **_authorization(config, self.place)}
        self._secrets = _secrets(headers.get("Authorization", ""), config.url)
        self.client = httpx2.Client(timeout=config.timeout, headers=headers)
        try:
            self.client.build_request("POST", config.url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise PlauditError(f"{self.place} cannot be requested: {mask_in_text(str(error))}; correct it") from error

    @classmethod
    def load(cls, config: HttpReward, device: torch.device) -> "EndpointSource":
        """Prepare the connection; nothing is sent before the first score."""
        return cls(config)

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the scores [samples]. Raises PlauditError if the service cannot be reached or answers wrongly."""
        parts = [torch.zeros(0)]
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            texts = {
                "prompts": [sample.prompt_text for sample in batch],
                "responses": [sample.response_text for sample in batch],
            }
            parts.append(checked_scores(self._scores_of(self._post(texts)), len(batch), self.place))
        return torch.cat(parts)

    def _scores_of(self, answer: bytes) -> Any:
        try:
            content = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise PlauditError(f"{self.place} answered {self._start_of(answer)}: the answer must be JSON") from error
        if not isinstance(content, dict) or "scores" not in content:
            raise PlauditError(
                f'{self.place} answered {self._start_of(answer)}: the answer must be {{"scores": [...]}}'
            )
        return content["scores"]

    def _post(self, texts: dict[str, list[str]]) -> bytes:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception_type(_TemporaryError),
            wait=_pause,
            before_sleep=self._announce_retry,
            reraise=True,
        )
        try:
            return attempts(self._attempt, texts)
        except _TemporaryError as last:
            raise PlauditError(
                f"{self.place} {last} (tried {ATTEMPTS} times); check that the service is running and that the URL is "
                "right"
            ) from last

    def _announce_retry(self, state: "RetryCallState") -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        logger.warning("%s %s; trying again in %.3g seconds", self.place, fault, state.upcoming_sleep)

    def _attempt(self, texts: dict[str, list[str]]) -> bytes:
        """Return the body of the answer to one request.

        The request runs in a thread, because the client limits only the time of each read, and a service that sends a
        byte now and then would never end.
        """
        outcome: list[bytes | Exception] = []

        def request() -> None:
            try:
                outcome.append(self._answer(texts, time.monotonic() + self.timeout))
            except Exception as error:  # raised again below
                outcome.append(error)

        thread = threading.Thread(target=request, daemon=True)
        thread.start()
        thread.join(self.timeout)
        if not outcome:
            raise self._too_late()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _answer(self, texts: dict[str, list[str]], deadline: float) -> bytes:
        import httpx2

        try:
            with self.client.stream("POST", self.url, json=texts) as response:
                body = self._body(response, deadline)
        except (httpx2.TransportError, httpx2.DecodingError) as error:  # refused, reset, timed out, not HTTP
            text = mask_in_text(" ".join(str(error).split()))[:200]
            raise _TemporaryError(f"cannot be reached ({type(error).__name__}: {text})") from error
        if response.is_success:
            return body
        problem = f"answered status {response.status_code}: {self._start_of(body)}"
        if response.status_code == TOO_MANY_REQUESTS or response.is_server_error:
            raise _TemporaryError(problem, _seconds(response.headers.get("Retry-After")))
        raise PlauditError(f"{self.place} {problem}")

    def _start_of(self, answer: bytes) -> str:
        """Return the beginning of an answer on one line, without secrets that it repeats."""
        text = answer[:LARGEST_SHOWN].decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return repr(text.strip()[:200])[1:-1]

    def _too_late(self) -> _TemporaryError:
        return _TemporaryError(f"did not answer completely within {self.timeout:g} seconds")

    def _body(self, response: "Response", deadline: float) -> bytes:
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > LARGEST_ANSWER:
                raise PlauditError(
                    f"{self.place} answered more than {LARGEST_ANSWER} bytes: the answer must hold only the scores"
                )
            if time.monotonic() > deadline:
                raise self._too_late()
        return bytes(body)


def _secrets(authorization: str, url: str) -> list[str]:
    """Return the texts that a service could repeat in its answer but no message may show, the longest first."""
    parts = urlsplit(url)
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    found = {authorization, authorization.rpartition(" ")[2], parts.password or "", unquote(parts.password or "")}
    found |= {b64encode(user.encode()).decode()} if parts.password else set()
    found |= {value for _, value in parse_qsl(parts.query)}
    return sorted((text for text in found if len(text) >= SHORTEST_SECRET), key=len, reverse=True)


def _authorization(config: HttpReward, place: str) -> dict[str, str]:
    """Return the header. The secret is read from the environment, so that no file of a run contains it."""
    if config.authorization is None:
        return {}
    if config.authorization not in os.environ:
        raise PlauditError(f"{place}: the environment variable {config.authorization} is not set; export it")
    value = os.environ[config.authorization]
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise PlauditError(
            f"{place}: the environment variable {config.authorization} holds line breaks, outer spaces or other "
            "characters that a header cannot have; export the bare value"
        )
    return {"Authorization": value}


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds in a ``Retry-After`` header; None without the header or if it contains a date."""
    text = (retry_after or "").strip()
    return min(float(text), LONGEST_PAUSE) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _pause(state: "RetryCallState") -> float:
    """Return the seconds before the next attempt."""
    fault = state.outcome.exception() if state.outcome is not None else None
    requested = fault.pause if isinstance(fault, _TemporaryError) else None
    return min(FIRST_PAUSE * 2 ** (state.attempt_number - 1) if requested is None else requested, LONGEST_PAUSE)
