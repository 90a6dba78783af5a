"""Held-out prompts, and the requests that every model receives."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from plaudit.config.schema import DataConfig, GenerationConfig
from plaudit.data.loading import load_rows
from plaudit.data.rows import PromptRow
from plaudit.data.splits import prompt_key
from plaudit.data.tokenization import tokenize_rows
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Request
from plaudit.seeding import derived_seed, python_generator

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel


class Asked(NamedTuple):
    """Requests, and the numbers of prompts that were dropped or cut to leave room for the response."""

    requests: list[Request]
    dropped: int
    truncated: int


def held_out_prompts(data: DataConfig, most: int, seed: int, rejects: Path | None, place: str) -> list[PromptRow]:
    """Return the distinct held-out prompts; if there are more than ``most``, a random selection in order.

    Rows that cannot be read are written to ``rejects``, if given. ``seed`` is the run's, so that the prompts are held
    out from its other stages too; ``place`` is the prefix of error messages.
    """
    rows = load_rows(data, PromptRow, rejects, seed).held_out
    unique = list({prompt_key(row): row for row in rows}.values())
    if len(unique) < 2:
        raise PlauditError(
            f"{place}: {len(unique)} prompts are held out, but at least 2 are needed; raise held_out_fraction"
        )
    chosen = python_generator(seed, "evaluate", "prompts").sample(range(len(unique)), min(most, len(unique)))
    return [unique[index] for index in sorted(chosen)]


def make_requests(
    rows: Sequence[PromptRow],
    loaded: "LoadedModel",
    data: DataConfig,
    generation: GenerationConfig,
    key: tuple[int | str, ...],
    responses: int = 1,
) -> Asked:
    """Return ``responses`` consecutive requests per prompt; their seeds derive from ``key`` and the index.

    Prompts that leave no room for the response are dropped, cut or refused, depending on ``data.overlong``.
    """
    room = loaded.context_length - generation.max_new_tokens
    if room < 1:
        raise PlauditError(
            f"generation.max_new_tokens {generation.max_new_tokens} leaves no room for a prompt in the context of "
            f"{loaded.context_length} tokens; lower it"
        )
    tokenized = tokenize_rows(rows, loaded.tokenizer, data, room)
    requests = [
        Request.of(prompt, derived_seed(*key, index, response))
        for index, prompt in enumerate(tokenized.rows)
        for response in range(responses)
    ]
    return Asked(requests, tokenized.dropped, tokenized.truncated)
