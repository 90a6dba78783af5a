"""A language model as a Python object: it generates texts with their log-probabilities."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.base import MOST_RESPONSES
from plaudit.data.rows import Prompt, PromptRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.errors import PlauditError
from plaudit.files import new_folder
from plaudit.models.saving import save_model
from plaudit.models.trunk import unwrapped
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request, Sample
from plaudit.seeding import derived_seed
from plaudit.serving.prompts import Rendering, prompt_rows
from plaudit.serving.targets import Target

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, repr=False, eq=False)
class Generation:
    """A text that a policy has generated; ``str(generation)`` is the text.

    ``prompt`` is the prompt as it was given, ``sample`` the tokens and texts of prompt and response, ``tokenizer`` the
    policy's.
    """

    prompt: Prompt
    sample: Sample
    tokenizer: Any

    @property
    def text(self) -> str:
        """The text without special tokens, up to the first stop string."""
        return self.sample.response_text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The sampled tokens, with the end token if the text ended with one."""
        return self.sample.response_ids

    @property
    def logprobs(self) -> NDArray[np.float32]:
        """The log-probability of each token in the distribution that it was drawn from, [tokens].

        That distribution is the model's at the temperature of the sampling, among the tokens that top_k, top_p and
        min_new_tokens leave. With temperature 1 and without these it is the model's own, and so it is with
        temperature 0.
        """
        return np.array(self.sample.log_probabilities, dtype=np.float32)

    @property
    def ended(self) -> bool:
        """Whether the text ended by itself, with an end token or a stop string, before max_new_tokens."""
        return self.sample.ended

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= _SHOWN_CHARACTERS else f"{self.text[:_SHOWN_CHARACTERS]}…"
        state = "ended" if self.ended else "not ended"
        return f"Generation({shown!r}, {len(self.token_ids)} tokens, {state})"


class Policy:
    """A language model that generates texts, from ``plaudit.load_policy``.

    ``model`` and ``tokenizer`` are those of transformers; ``name`` says where they come from. A change of the model's
    weights affects the next text.
    """

    def __init__(self, loaded: "LoadedModel", target: Target) -> None:
        self.name = target.model
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.rendering = Rendering(loaded.tokenizer, target.style, target.data)
        self.context_length = loaded.context_length
        self._target, self._loaded = target, loaded
        self._engine = TransformersEngine(loaded)

    def __repr__(self) -> str:
        numbers = sum(weights.numel() for weights in self.model.parameters())
        prompts = {"dialogue": "turns of a user", "plain": "text to continue", "prompt": "plain prompts"}
        style = prompts[self.rendering.style]
        template = self.rendering.data.prompt_template
        within = f" in {template!r}" if self.rendering.style == "prompt" and template != "{prompt}" else ""
        model = f"{type(unwrapped(self.model)).__name__} with {numbers:,} weights on {self._loaded.device}"
        return f"Policy({self.name!r}: {model}, texts are {style}{within})"

    def generate(
        self,
        prompts: Iterable[Any],
        n: int = 1,
        *,
        max_new_tokens: int | None = None,
        min_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> list[list[Generation]]:
        """Return ``n`` texts for each prompt.

        The texts of a prompt depend on the seed, the prompt and the settings, not on the other prompts or the batch
        size. If a prompt is given several times, each gets its own texts.

        Args:
            prompts: texts, lists of messages with ``role`` and ``content``, or rows with a column ``prompt``, such as a
                ``DataFrame``. They are rendered as in the model's training, if its folder says how. Without that, a
                text is continued as it is, and messages go through the tokenizer's chat template or become
                Human/Assistant turns.
            n: texts per prompt.
            max_new_tokens: maximum length of a text, in tokens; this and the other settings are by default those of
                the run that the model comes from, otherwise those of the key ``generation`` in recipes.
            min_new_tokens: minimum length before the end token.
            temperature: 0 always takes the most likely token.
            top_p: sample from the fewest tokens whose probabilities sum to at least this.
            top_k: sample from this many most likely tokens; 0: from all.
            stop: a text, or several, that ends a response; it is cut off.
            seed: of all random choices.
            batch_size: texts generated at a time; it affects results only by rounding.

        Returns:
            A list of ``n`` ``Generation`` for each prompt.

        Raises:
            PlauditError: a setting or prompt is not valid, or a prompt leaves no room for the text.
        """
        given = {
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "stop": None if stop is None else [stop] if isinstance(stop, str) else list(stop),
            "batch_size": batch_size,
        }
        settings = self.settings({key: value for key, value in given.items() if value is not None})
        return self.generate_rows(prompt_rows(prompts), n, settings, seed, Counter())

    def settings(self, changes: Mapping[str, Any]) -> GenerationConfig:
        """Return the generation settings of the model's run, or the defaults, with ``changes``.

        Args:
            changes: keys of ``generation`` in recipes, with their values.

        Returns:
            The settings.

        Raises:
            PlauditError: a key is unknown, or its value not possible.
        """
        return self._target.generation_with(changes)

    def generate_rows(
        self, rows: Sequence[PromptRow], n: int, settings: GenerationConfig, seed: int, seen: Counter[int]
    ) -> list[list[Generation]]:
        """Return ``n`` texts for each row, as ``generate`` does.

        Args:
            rows: prompts.
            n: texts per prompt.
            settings: from the method ``settings``.
            seed: of all random choices.
            seen: how often each prompt was asked before; it is counted on, so that equal prompts in several calls get
                different texts.

        Returns:
            A list of ``n`` ``Generation`` for each row.

        Raises:
            PlauditError: as ``generate`` does.
        """
        if type(n) is not int or n < 1:
            raise PlauditError(f"n: {n!r} texts per prompt; give a whole number from 1 on")
        if n * len(rows) > MOST_RESPONSES:
            raise PlauditError(
                f"{n:,} texts for each of {len(rows):,} prompts: the limit is {MOST_RESPONSES:,} at a time; ask for "
                "fewer"
            )
        if not rows:
            return []
        prompts = self.rendering.prompts(rows)
        self._check_lengths(prompts, settings)
        requests = [request for prompt in prompts for request in _requests(prompt, n, seed, seen)]
        # Stop strings may differ from prompt to prompt, and an engine takes one list of them.
        of_request = [self.rendering.generation(row.prompt, settings) for row in rows for _ in range(n)]
        samples: dict[int, Sample] = {}
        by_stops = sorted(range(len(requests)), key=lambda index: of_request[index].stop)
        for _, group in groupby(by_stops, key=lambda index: of_request[index].stop):
            own = list(group)
            found = self._engine.generate([requests[index] for index in own], of_request[own[0]])
            samples |= dict(zip(own, found, strict=True))
        return [
            [Generation(row.prompt, samples[number * n + k], self.tokenizer) for k in range(n)]
            for number, row in enumerate(rows)
        ]

    def save(self, folder: str | Path) -> Path:
        """Save model and tokenizer as a folder that transformers and Plaudit load; adapters are merged.

        Args:
            folder: where; it must not exist, or be empty.

        Returns:
            The folder.

        Raises:
            PlauditError: the folder holds something, cannot be written, or computes something else than the model.
        """
        with new_folder(Path(folder)) as unfinished:
            save_model(self.model, self.tokenizer, unfinished)
        return Path(folder)

    def _check_lengths(self, prompts: Sequence[TokenizedRow[PromptRow]], settings: GenerationConfig) -> None:
        room = self.context_length - settings.max_new_tokens
        for prompt in prompts:
            if len(prompt.tree.prompt) > room:
                origin = prompt.row.origin
                raise PlauditError(
                    f"{origin.source} line {origin.line}: a prompt of {len(prompt.tree.prompt)} tokens and "
                    f"{settings.max_new_tokens} new ones exceed the model's context of {self.context_length}; shorten "
                    "the prompt, or lower max_new_tokens"
                )


def _requests(prompt: TokenizedRow[PromptRow], n: int, seed: int, seen: Counter[int]) -> list[Request]:
    """Return ``n`` requests whose seeds depend on the prompt, how often it was seen, and their number."""
    content = derived_seed(*prompt.tree.prompt)
    before, seen[content] = seen[content], seen[content] + 1
    return [Request.of(prompt, derived_seed(seed, "generate", content, before, number)) for number in range(n)]
