"""An HTTP service as a reward source: POST {"prompts": [...], "responses": [...]}, answered by {"scores": [...]}."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import torch

from plaudit.config.schema import RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.rewards.checks import checked_scores
from plaudit.rollouts.samples import Sample

ATTEMPTS = 4
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; every further pause is twice as long."""


class EndpointSource:
    """Scores by a service. Failed connections and server errors (status 5xx) are tried again, ``ATTEMPTS`` in all."""

    def __init__(self, config: RewardSourceConfig) -> None:
        assert config.url is not None
        self.name = config.name
        self.url = config.url
        self.timeout = config.timeout
        self.batch_size = config.batch_size
        self.place = f"reward source {config.name!r}: {config.url}"
        if not config.url.startswith(("http://", "https://")):
            raise PlauditError(f"{self.place} is no address: it must begin with http:// or https://")

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the service's scores [samples]. Raises PlauditError when it cannot be reached or answers nonsense."""
        parts = [torch.zeros(0)]
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            texts = {
                "prompts": [sample.prompt_text for sample in batch],
                "responses": [sample.response_text for sample in batch],
            }
            parts.append(checked_scores(self._scores_of(self._post(texts)), len(batch), self.place))
        return torch.cat(parts)

    def _scores_of(self, body: bytes) -> Any:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise PlauditError(f"{self.place} answered {body[:80]!r}, which is no JSON") from error
        if not isinstance(answer, dict) or "scores" not in answer:
            raise PlauditError(f'{self.place} answered {str(answer)[:80]}: the answer must be {{"scores": [...]}}')
        return answer["scores"]

    def _post(self, texts: dict[str, list[str]]) -> bytes:
        request = urllib.request.Request(
            self.url, data=json.dumps(texts).encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return response.read()
            except urllib.error.HTTPError as error:
                problem = f"answered status {error.code}: {error.read(200).decode(errors='replace').strip()}"
                if error.code < 500:
                    raise PlauditError(f"{self.place} {problem}") from error
            except OSError as error:  # refused, reset, unknown host, timed out
                problem = f"cannot be reached ({getattr(error, 'reason', None) or error})"
            if attempt < ATTEMPTS:
                time.sleep(pause)
                pause *= 2
        raise PlauditError(f"{self.place} {problem}, {ATTEMPTS} attempts; is the service running, its address right?")
