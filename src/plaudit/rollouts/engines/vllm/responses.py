"""A request to generate, and what is accepted as its answer."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from plaudit.config.schema import GenerationConfig
from plaudit.errors import one_line
from plaudit.rollouts.engines.vllm.client import Client
from plaudit.rollouts.samples import Request

PATH = "/inference/v1/generate"
NO_NUMBER = -9999.0  # the server's text for a log-probability that is not finite


def generate(
    client: Client, request: Request, limit: int, settings: GenerationConfig, end_ids: Collection[int], version: str
) -> tuple[list[int], list[float]]:
    """Return the response's token ids and their log-probabilities in the distribution that they were drawn from.

    ``limit`` is the maximum number of tokens. Raises PlauditError if the server fails, or if any token was generated
    with weights of another version.
    """
    answer = client.post(
        PATH,
        {
            "token_ids": list(request.prompt_ids),
            "cache_salt": version,  # what was computed with other weights must not be reused
            "sampling_params": {
                "max_tokens": limit,
                "min_tokens": settings.min_new_tokens,
                "temperature": settings.temperature,
                "top_k": settings.top_k,
                "top_p": settings.top_p,
                "seed": request.seed,
                "logprobs": 0,  # those of the sampled tokens alone
                "stop_token_ids": sorted(end_ids),
                "ignore_eos": True,  # the end tokens are exactly those above
                "detokenize": False,
            },
        },
    )
    try:
        found = _Answer.of(answer["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise client.error(PATH, f"was answered in another format ({one_line(error)})") from error
    if problem := found.problem(limit, version):
        raise client.error(PATH, problem)
    if min(found.log_probabilities, default=0.0) <= NO_NUMBER:
        raise client.error(
            PATH,
            "reported a log-probability that is not finite: return to an earlier checkpoint and lower the "
            "learning rate",
        )
    return found.ids, found.log_probabilities


@dataclass(frozen=True)
class _Answer:
    """An answer of the server; ``spans`` are (version of the weights, first token, end)."""

    ids: list[int]
    log_probabilities: list[float]
    spans: list[tuple[str, int, int]]
    reason: str

    @classmethod
    def of(cls, choice: Any) -> "_Answer":
        """Return an entry of the server's ``choices``; raises KeyError or TypeError if it is malformed."""
        return cls(
            ids=[int(token) for token in choice["token_ids"]],
            log_probabilities=[float(token["logprob"]) for token in choice["logprobs"]["content"]],
            spans=[(span["version"], span["start"], span["end"]) for span in choice["weight_versions"]],
            reason=choice["finish_reason"],
        )

    def problem(self, limit: int, version: str) -> str | None:
        """Return why the answer cannot be used, or None."""
        count = len(self.ids)
        if self.spans != [(version, 0, count)]:
            return f"generated {count} tokens with weights {self.spans}, not with version {version} alone"
        if len(self.log_probabilities) != count:
            return f"returned {count} tokens and {len(self.log_probabilities)} log-probabilities"
        if self.reason not in ("stop", "length"):
            return f"ended a response by {self.reason}"
        if not 0 < count <= limit or (self.reason == "length" and count < limit):
            return f"returned {count} tokens where {limit} were allowed (finish reason: {self.reason})"
        return None
