"""The experience of one iteration, and its conversion to tensors for checkpoints between the iteration's steps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain

import torch
from torch import Tensor

from plaudit.batching.ragged import response_mask
from plaudit.batching.trees import Example, PromptTree
from plaudit.rollouts.samples import Sample, learned_flags

OLD = "old_log_probabilities"

ResponseNumbers = range
"""The indices of a prompt's responses among those of all processes: their rows in an ``Experience``."""


@dataclass(frozen=True)
class ResponseRows:
    """Values for R responses, the longest of T tokens. All are [R, T] and zero after the end of a response.

    ``sampled``: log-probabilities with which the tokens were sampled, after top_k and top_p; ``reference``: under the
    reference; ``importance``: weights of the tokens in the policy loss (1 without a correction); ``values`` and
    ``returns`` are zero without a value function. ``scores`` and ``learned`` are [R]: scores after penalties, scaling
    and clipping; false for truncated responses that are masked.
    """

    sampled: Tensor
    reference: Tensor
    importance: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    scores: Tensor
    learned: Tensor

    def chosen(self, responses: Tensor, time: int, device: torch.device) -> "ResponseRows":
        """Return the rows of the given responses (indices), truncated to ``time`` tokens, on ``device``."""
        parts = {field.name: getattr(self, field.name)[responses] for field in fields(self)}
        return ResponseRows(
            **{name: (part if part.dim() == 1 else part[:, :time]).to(device) for name, part in parts.items()}
        )


@dataclass(frozen=True)
class Experience:
    """Rollouts of all processes, with everything that the losses need.

    Each of the ``examples`` holds a prompt with its responses and the responses' indices. ``lengths`` is [R].
    ``old_log_probabilities`` [R, T] are those of the policy before the iteration's first step; None if that step itself
    computes them (``ReadDuringStep``).
    """

    examples: list[Example[ResponseNumbers]]
    lengths: Tensor
    rows: ResponseRows
    old_log_probabilities: Tensor | None

    @property
    def trees(self) -> list[PromptTree]:
        """The prompts with their responses."""
        return [example.tree for example in self.examples]

    @property
    def mask(self) -> Tensor:
        """True on the tokens that the policy chose, [R, T]."""
        return response_mask(self.lengths, self.rows.sampled.shape[1])

    @property
    def learned(self) -> Tensor:
        """True on the tokens that are trained on, [R, T]: those that the policy chose, without masked responses."""
        return self.mask & self.rows.learned[:, None]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors, for ``from_tensors``."""
        trees = self.trees
        prompts = [torch.tensor(tree.prompt) for tree in trees]
        responses = [torch.tensor(response) for tree in trees for response in tree.responses]
        flags = [torch.tensor(tree.flags(number)) for tree in trees for number in range(len(tree.responses))]
        return {
            "prompt_tokens": torch.cat(prompts),
            "prompt_lengths": torch.tensor([len(prompt) for prompt in prompts]),
            "responses_per_prompt": torch.tensor([len(tree.responses) for tree in trees]),
            "response_tokens": torch.cat(responses),
            "response_lengths": torch.tensor([len(response) for response in responses]),
            "learned_tokens": torch.cat([part.bool() for part in flags]),
            "lengths": self.lengths,
            **({} if self.old_log_probabilities is None else {OLD: self.old_log_probabilities}),
            **{field.name: getattr(self.rows, field.name) for field in fields(self.rows)},
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Experience":
        """Return the experience that ``to_tensors`` converted."""
        prompts = tensors["prompt_tokens"].split(tensors["prompt_lengths"].tolist())
        sizes, counts = tensors["response_lengths"].tolist(), tensors["responses_per_prompt"].tolist()
        responses = [tuple(part.tolist()) for part in tensors["response_tokens"].split(sizes)]
        flags = [tuple(part.tolist()) for part in tensors["learned_tokens"].split(sizes)]
        trees, first = [], 0
        for prompt, count in zip(prompts, counts, strict=True):
            own = slice(first, first + count)
            learned = None if all(map(all, flags[own])) else tuple(flags[own])
            trees.append(PromptTree(tuple(prompt.tolist()), tuple(responses[own]), learned))
            first += count
        rows = ResponseRows(**{field.name: tensors[field.name] for field in fields(ResponseRows)})
        return cls(numbered(trees), tensors["lengths"], rows, tensors.get(OLD))


def numbered(trees: Sequence[PromptTree]) -> list[Example[ResponseNumbers]]:
    """Return the trees, each with the indices of its responses, counted from 0 over all trees."""
    examples, first = [], 0
    for tree in trees:
        examples.append(Example(tree, range(first, first := first + len(tree.responses))))
    return examples


def all_numbers(numbers: Iterable[ResponseNumbers]) -> Tensor:
    """Return the indices of several prompts' responses, in their order, [responses]."""
    return torch.tensor(list(chain.from_iterable(numbers)))


def trees_of(groups: Sequence[Sequence[Sample]]) -> list[PromptTree]:
    """Return a tree per group of samples that answer one prompt."""
    return [
        PromptTree(group[0].prompt_ids, tuple(sample.response_ids for sample in group), learned_flags(group))
        for group in groups
    ]
