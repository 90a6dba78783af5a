"""Held-out prompts, and the requests that every model receives."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from plaudit.config.schema import DataConfig, GenerationConfig, ModelConfig
from plaudit.data.loading import load_rows
from plaudit.data.prompt_record import read_record
from plaudit.data.rows import PromptRow
from plaudit.data.selection import Indices
from plaudit.data.splits import Keys, groups_of
from plaudit.data.store.cache import DataCache
from plaudit.data.templates import check_prompt_template
from plaudit.data.tokenization import tokenize_rows
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Request
from plaudit.seeding import derived_seed, python_generator

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel


logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """Requests, and the numbers of prompts that were dropped or cut to leave room for the response.

    ``counted``: what else was noticed while the prompts were rendered, and how often.
    """

    requests: list[Request]
    dropped: int
    truncated: int
    counted: Mapping[str, int]


class Selection(NamedTuple):
    """Held-out prompts, and in words which part of all prompts they are."""

    rows: list[PromptRow]
    described: str


def held_out_prompts(
    data: DataConfig, most: int, seed: int, rejects: Path | None, place: str, cache: DataCache
) -> Selection:
    """Return the distinct held-out prompts; if there are more than ``most``, a random selection in order.

    Rows that cannot be read are written to ``rejects``, if given. ``seed`` is the run's, so that the prompts are held
    out from its other stages too; ``place`` is the prefix of error messages.
    """
    loaded = load_rows(data, PromptRow, rejects, seed, cache)
    for line in loaded.warnings():
        logger.warning("%s: %s", place, line)
    check_prompt_template(loaded.prompt_kinds, data, place, data.sources[0].path)
    unique = _distinct(loaded.held_out_indices, loaded.prompts)
    if len(unique) < 2:
        raise PlauditError(
            f"{place}: {len(unique)} different prompts are held out, but at least 2 are needed; add prompts, or raise "
            "held_out_fraction"
        )
    chosen = python_generator(seed, "evaluate", "prompts").sample(range(len(unique)), min(most, len(unique)))
    everything = loaded.different_prompts
    described = _described(len(chosen), len(unique), everything, data, most)
    return Selection([loaded.rows[int(unique[index])] for index in sorted(chosen)], described)


def _described(used: int, held_out: int, everything: int, data: DataConfig, most: int) -> str:
    limit = [f"evaluate.max_prompts={most}"] * (used < held_out)
    if data.held_out or held_out == everything:
        return ", ".join([f"{used} of {held_out} held-out prompts", *limit])
    holds_out = f"held_out_fraction={data.held_out_fraction:g} holds out {held_out}"
    return f"{used} of {everything} prompts ({', '.join([holds_out, *limit])})"


def _distinct(indices: Indices, prompts: Keys) -> Indices:
    """Return an index for each different prompt, in the order of their first rows: that of its last row."""
    groups = groups_of(prompts[indices])
    _, first = np.unique(groups, return_index=True)
    _, from_end = np.unique(groups[::-1], return_index=True)
    last = len(groups) - 1 - from_end
    found: Indices = indices[last[np.argsort(first)]]
    return found


def as_trained(data: DataConfig, models: Mapping[str, ModelConfig]) -> DataConfig:
    """Return settings that render prompts as in the training of the models, where ``data`` sets nothing else.

    Warns of models that were trained on prompts rendered in another way.
    """
    found = {name: read_record(model.path) for name, model in models.items()}
    records = {name: record for name, record in found.items() if record is not None and record.prompts != "text"}
    if not data.model_fields_set & {"prompt_template", "conversation"}:
        ways = {(record.prompt_template, record.conversation): record for record in records.values()}
        if len(ways) == 1:
            [record] = ways.values()
            return record.applied_to(data)
    for name, record in records.items():
        same = record.applied_to(data)
        if same.prompt_template != data.prompt_template:
            logger.warning("evaluate: %s was trained on %s; here prompts are in %r", name, record, data.prompt_template)
    return data


def make_requests(
    rows: Sequence[PromptRow],
    loaded: "LoadedModel",
    data: DataConfig,
    generation: GenerationConfig,
    key: tuple[int | str, ...],
    longest: int,
    responses: int = 1,
) -> Asked:
    """Return ``responses`` consecutive requests per prompt; their seeds derive from ``key`` and the index.

    Prompts whose responses might not end within ``longest`` tokens are dropped, cut or refused, depending on
    ``data.overlong``.
    """
    room = longest - generation.max_new_tokens
    if room < 1:
        raise PlauditError(
            f"evaluate.generation.max_new_tokens: {generation.max_new_tokens} leaves no room for a prompt in "
            f"{longest} tokens, which all models and rewards can read; lower it"
        )
    tokenized = tokenize_rows(rows, loaded.tokenizer, data, room)
    requests = [
        Request.of(prompt, derived_seed(*key, index, response))
        for index, prompt in enumerate(tokenized.rows)
        for response in range(responses)
    ]
    return Asked(requests, tokenized.dropped, tokenized.truncated, tokenized.counted)
