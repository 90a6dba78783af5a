"""What scores responses, as a Python object: the scores are those that a run would use."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.rewards.sources import ComposedReward
from plaudit.rollouts.samples import Sample
from plaudit.serving.policy import Generation
from plaudit.serving.prompts import Rendering, as_text, prompt_rows

Response = str | Generation


class Reward:
    """Scores responses, from ``plaudit.load_reward``. ``name`` says where it comes from."""

    def __init__(self, name: str, composed: ComposedReward, rendering: Rendering | None) -> None:
        self.name = name
        self.composed = composed
        self.rendering = rendering
        self._checked: Any = None  # the tokenizer that was checked last

    def __repr__(self) -> str:
        parts = [
            f"{source.name} ({type(source).__name__})" if weight == 1 else f"{weight:g} * {source.name}"
            for source, weight in zip(self.composed.sources, self.composed.weights, strict=True)
        ]
        return f"Reward({self.name!r}: {' + '.join(parts)})"

    def score(
        self,
        prompts: Iterable[Any],
        responses: Sequence[Response] | Sequence[Sequence[Response]],
        **columns: Iterable[Any],
    ) -> NDArray[np.float32]:
        """Return the score of each response: the number that a run would use.

        A trained reward model reads the tokens of the prompt, rendered as in its training, and of the response with
        its end token. Classifiers, functions and services read the texts; messages are Human/Assistant turns there.
        A ``Generation`` is scored as it was generated: with the tokens and the rendered prompt of its policy.

        Args:
            prompts: texts, lists of messages with ``role`` and ``content``, or rows with a column ``prompt``; functions
                get their other columns.
            responses: a text or ``Generation`` for each prompt, or a list of them for each prompt, all of one length.
            columns: other columns of the prompts, for functions that take them; a list with a value for each prompt.

        Returns:
            The scores, [prompts], or [prompts, responses per prompt] if there is a list of responses for each prompt.

        Raises:
            PlauditError: prompts, responses and columns do not fit together, a prompt is not valid, a source fails, or
                a score is not finite.
        """
        rows, given = prompt_rows(prompts, columns), list(responses)
        if isinstance(responses, str) or len(given) != len(rows):
            what = "one text" if isinstance(responses, str) else f"{len(given)} responses"
            raise PlauditError(f"{what} for {len(rows)} prompts; give a list with a response for each prompt")
        several = [list(own) for own in given if isinstance(own, list | tuple)]
        if several and (len(several) < len(given) or len({len(own) for own in several}) > 1):
            raise PlauditError("responses: give one for each prompt, or lists of the same length for all of them")
        number = len(several[0]) if several else 1
        flat: list[Any] = [response for own in several for response in own] if several else given
        scores = self.score_samples(self.samples([row for row in rows for _ in range(number)], flat))
        return scores.reshape(len(rows), number) if several else scores

    def samples(self, rows: Sequence[PromptRow], responses: Sequence[Response]) -> list[Sample]:
        """Return each row with its response in the form in which it is scored.

        Args:
            rows: prompts.
            responses: a response for each.

        Returns:
            The samples. Those of texts are complete responses, which end with the end token.

        Raises:
            PlauditError: a response is not a text, or a prompt cannot be rendered.
        """
        for row, response in zip(rows, responses, strict=True):
            if not isinstance(response, str | Generation):
                raise PlauditError(f"{_place(row)}: the response {response!r:.60} is neither a text nor a Generation")
        texts = [pair for pair in zip(rows, responses, strict=True) if isinstance(pair[1], str)]
        written = iter(self._written([row for row, _ in texts], [str(response) for _, response in texts]))
        return [
            self._generated(row, response) if isinstance(response, Generation) else next(written)
            for row, response in zip(rows, responses, strict=True)
        ]

    def score_samples(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return the scores of samples, [samples].

        Args:
            samples: from the method ``samples``, or of generations.

        Returns:
            The weighted sum of the sources' scores.

        Raises:
            PlauditError: a source fails, or a score is not finite.
        """
        scores: NDArray[np.float32] = self.composed.score(samples).total.numpy()
        return scores

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that the token ids of a policy can be read.

        Args:
            tokenizer: the policy's.

        Raises:
            PlauditError: a source reads token ids, and has another vocabulary.
        """
        self.composed.check_tokenizer(tokenizer)

    def _generated(self, row: PromptRow, generation: Generation) -> Sample:
        if generation.prompt != row.prompt:
            raise PlauditError(f"{_place(row)}: the Generation belongs to another prompt; give it with its own")
        if self._checked is not generation.tokenizer:
            self.check_tokenizer(generation.tokenizer)
            self._checked = generation.tokenizer
        return replace(generation.sample, fields=row.fields, origin=row.origin)

    def _written(self, rows: Sequence[PromptRow], responses: Sequence[str]) -> list[Sample]:
        if self.rendering is None:
            return [
                Sample((), (), as_text(row.prompt), response, True, fields=row.fields, origin=row.origin)
                for row, response in zip(rows, responses, strict=True)
            ]
        texts = [number for number, response in enumerate(responses) if response]
        answered = self.rendering.answered([rows[k] for k in texts], [responses[k] for k in texts]) if texts else []
        found = {
            k: (one.tree.prompt, one.tree.responses[0], one.prompt_text) for k, one in zip(texts, answered, strict=True)
        }
        # An empty response is the end token alone, as a policy samples it.
        empty = [number for number, response in enumerate(responses) if not response]
        asked = self.rendering.prompts([rows[k] for k in empty]) if empty else []
        end = (self.rendering.tokenizer.eos_token_id,)
        found |= {k: (one.tree.prompt, end, one.prompt_text) for k, one in zip(empty, asked, strict=True)}
        return [
            Sample(*found[number], response, True, fields=row.fields, origin=row.origin)
            for number, (row, response) in enumerate(zip(rows, responses, strict=True))
        ]


def _place(row: PromptRow) -> str:
    return f"{row.origin.source} line {row.origin.line}"
