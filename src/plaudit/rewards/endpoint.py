"""An HTTP service as a reward source: POST {"prompts": [...], "responses": [...]}, answered by {"scores": [...]}."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from plaudit.config.schema import HttpReward
from plaudit.errors import PlauditError
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from httpx2 import Response
    from tenacity import RetryCallState

ATTEMPTS = 5
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long, unless the service sets ``Retry-After``."""
LONGEST_PAUSE = 60.0
"""Upper limit of a pause in seconds, also for ``Retry-After``."""
TOO_MANY_REQUESTS = 429


class _TemporaryError(Exception):
    """An error worth a retry: the service is busy, has failed, or could not be reached."""

    def __init__(self, problem: str, pause: float | None = None) -> None:
        super().__init__(problem)
        self.pause = pause


class EndpointSource:
    """Scores responses with an HTTP service.

    Failed connections, server errors (status 5xx) and status 429 are retried, up to ``ATTEMPTS`` attempts. The header
    ``Retry-After`` sets the pause in seconds; without it, pauses grow from attempt to attempt.
    """

    def __init__(self, config: HttpReward) -> None:
        import httpx2

        self.name = config.name
        self.url = config.url
        self.batch_size = config.batch_size
        self.place = f"reward source {config.name!r}: {config.url}"
        if not config.url.startswith(("http://", "https://")):
            raise PlauditError(f"{self.place} is not a URL: it must begin with http:// or https://")
        self.client = httpx2.Client(timeout=config.timeout, headers=_authorization(config, self.place))

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

    def _scores_of(self, response: "Response") -> Any:
        try:
            answer = response.json()
        except ValueError as error:
            raise PlauditError(f"{self.place} answered {response.content[:80]!r}: the answer must be JSON") from error
        if not isinstance(answer, dict) or "scores" not in answer:
            raise PlauditError(f'{self.place} answered {str(answer)[:80]}: the answer must be {{"scores": [...]}}')
        return answer["scores"]

    def _post(self, texts: dict[str, list[str]]) -> "Response":
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS), retry=retry_if_exception_type(_TemporaryError), wait=_pause, reraise=True
        )
        try:
            return attempts(self._attempt, texts)
        except _TemporaryError as last:
            raise PlauditError(
                f"{self.place} {last} (tried {ATTEMPTS} times); check that the service is running and that the URL is "
                "right"
            ) from last

    def _attempt(self, texts: dict[str, list[str]]) -> "Response":
        import httpx2

        try:
            response = self.client.post(self.url, json=texts)
        except httpx2.TransportError as error:  # refused, reset, unknown host, timed out
            raise _TemporaryError(f"cannot be reached ({type(error).__name__}: {error})") from error
        if response.is_success:
            return response
        problem = f"answered status {response.status_code}: {response.text[:200].strip()}"
        if response.status_code == TOO_MANY_REQUESTS or response.is_server_error:
            raise _TemporaryError(problem, _seconds(response.headers.get("Retry-After")))
        raise PlauditError(f"{self.place} {problem}")


def _authorization(config: HttpReward, place: str) -> dict[str, str]:
    """Return the header. The secret is read from the environment, so that no file of a run contains it."""
    if config.authorization is None:
        return {}
    if config.authorization not in os.environ:
        raise PlauditError(f"{place}: the environment variable {config.authorization} is not set; export it")
    return {"Authorization": os.environ[config.authorization]}


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds in a ``Retry-After`` header; None without the header or if it contains a date."""
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None


def _pause(state: "RetryCallState") -> float:
    """Return the seconds before the next attempt."""
    fault = state.outcome.exception() if state.outcome is not None else None
    requested = fault.pause if isinstance(fault, _TemporaryError) else None
    return min(FIRST_PAUSE * 2 ** (state.attempt_number - 1) if requested is None else requested, LONGEST_PAUSE)
