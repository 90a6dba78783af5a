"""Checks before the first stage starts whether the prompts of later stages fit into all models that will read them.

The first rows of local files are tokenized. Whether others fit is known when their stage has tokenized its data.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.config.schema import ClassifierReward, DataConfig, EvaluateConfig, ModelConfig, RlConfig
from plaudit.data.encoding import Encoder
from plaudit.data.limits import TreesInMemory
from plaudit.data.readers.sources import is_local
from plaudit.data.rows import PromptRow
from plaudit.data.sources import SourceReading
from plaudit.data.templates import Renderer
from plaudit.data.tokenization import tokenized_completely, within_limits
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.errors import PlauditError
from plaudit.hub import is_cached
from plaudit.models.context import configured_length
from plaudit.models.loading.limits import stored_configuration
from plaudit.models.loading.pretrained import load_from
from plaudit.models.loading.tokenizer import load_tokenizer

FIRST_ROWS = 1_000

Prompts = list[TokenizedRow[PromptRow]]


def overlong_prompts(section: RlConfig | EvaluateConfig, name: str, model: ModelConfig, length: int) -> Iterator[str]:
    """Yield a line for each model or classifier that cannot read the prompts of the stage ``name``.

    ``model`` names the tokenizer; ``length`` is the longest prompt with its response that all language and reward
    models read.
    """
    try:
        tokenizer = load_tokenizer(model)
        prompts, complete = _first_prompts(section.prompts, tokenizer)
    except PlauditError:  # the stage, or the check of another key, says why
        return
    longest = length - section.generation.max_new_tokens
    if prompts and (complete or section.prompts.overlong == "error"):
        try:
            within_limits(TreesInMemory(prompts), np.arange(len(prompts)), tokenizer, section.prompts, longest)
        except PlauditError as fault:
            yield f"{name}.prompts: {fault}"
    for number, reward in enumerate(section.rewards):
        if isinstance(reward, ClassifierReward) and reward.scored_text == "both" and reward.overlong == "error":
            yield from _unread_by_classifier(reward, f"{name}.rewards.{number}", prompts)


def _first_prompts(config: DataConfig, tokenizer: Any) -> tuple[Prompts, bool]:
    """Return the first prompts of all local files, and whether they are all that there are."""
    renderer = Renderer(tokenizer, config)
    prompts: Prompts = []
    complete = True
    for source in (*config.sources, *config.held_out):
        rows = list(islice(SourceReading(source, PromptRow), FIRST_ROWS)) if is_local(source.path) else []
        complete = complete and 0 < len(rows) < FIRST_ROWS
        prompts += [row for _, row in tokenized_completely(rows, renderer, Encoder(renderer.special, tokenizer))]
    return prompts, complete


def _unread_by_classifier(
    reward: ClassifierReward, place: str, prompts: Sequence[TokenizedRow[PromptRow]]
) -> Iterator[str]:
    from transformers import AutoTokenizer

    if not (Path(reward.path).is_dir() or is_cached(reward.path)) or reward.trust_remote_code:
        return
    try:
        tokenizer: Any = load_from(f"tokenizer {reward.path}", AutoTokenizer.from_pretrained, reward.path)
        limit = min(tokenizer.model_max_length, configured_length(stored_configuration(reward.path)))
    except PlauditError:  # as above
        return
    for prompt in prompts:
        if (tokens := len(tokenizer(prompt.prompt_text, verbose=False)["input_ids"])) > limit:
            origin = prompt.row.origin
            yield (
                f"{place}: {origin.source} line {origin.line}: a prompt of {tokens} tokens, but the classifier reads "
                f"{limit}; shorten prompts, or set overlong: truncate"
            )
            return
