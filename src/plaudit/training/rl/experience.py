"""What one iteration has collected, and how it outlives a checkpoint in the middle of the epochs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from plaudit.batching.ragged import response_mask
from plaudit.batching.trees import Example, PromptTree
from plaudit.rollouts.samples import Sample, learned_flags

OLD = "old_log_probabilities"


@dataclass(frozen=True)
class ResponseRows:
    """Numbers of R responses, the longest of T tokens. All are [R, T] and zero after the end of a response.

    ``sampled``: log-probabilities with which the tokens were sampled, after top_k and top_p; ``reference``: under the
    reference; ``importance``: weights of the tokens in the policy loss (one without a correction); ``values`` and
    ``returns`` are zero without a value function. But ``scores`` [R], after penalties, scaling and clipping; and
    ``learned`` [R], false for responses that teach nothing because they were cut off.
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
        """Return the given responses (indices), cut after ``time`` tokens, on ``device``."""
        parts = {field.name: getattr(self, field.name)[responses] for field in fields(self)}
        return ResponseRows(
            **{name: (part if part.dim() == 1 else part[:, :time]).to(device) for name, part in parts.items()}
        )


@dataclass(frozen=True)
class Experience:
    """Rollouts of all processes, with everything that the losses compare against.

    ``trees`` holds a prompt with its responses each; their ``fields["first_response"]`` is the number of the first
    response. ``lengths`` is [R]. ``old_log_probabilities`` [R, T] are those of the policy before the iteration's first
    step; None where that step itself computes them (``ReadDuringStep``).
    """

    trees: list[PromptTree]
    lengths: Tensor
    rows: ResponseRows
    old_log_probabilities: Tensor | None

    @property
    def examples(self) -> list[Example[None]]:
        """The trees as the loop takes them."""
        return [Example(tree, None) for tree in self.trees]

    @property
    def mask(self) -> Tensor:
        """True on the tokens that the policy chose, [R, T]."""
        return response_mask(self.lengths, self.rows.sampled.shape[1])

    @property
    def learned(self) -> Tensor:
        """True on the tokens that the policy learns from, [R, T]: those it chose, in responses that teach."""
        return self.mask & self.rows.learned[:, None]

    def numbers(self, trees: Sequence[PromptTree]) -> Tensor:
        """Return the response numbers of the given trees, in their order."""
        return torch.tensor([t.fields["first_response"] + k for t in trees for k in range(len(t.responses))])

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors; ``from_tensors`` takes it back."""
        prompts = [torch.tensor(tree.prompt) for tree in self.trees]
        responses = [torch.tensor(response) for tree in self.trees for response in tree.responses]
        return {
            "prompt_tokens": torch.cat(prompts),
            "prompt_lengths": torch.tensor([len(prompt) for prompt in prompts]),
            "responses_per_prompt": torch.tensor([len(tree.responses) for tree in self.trees]),
            "response_tokens": torch.cat(responses),
            "response_lengths": torch.tensor([len(response) for response in responses]),
            "learned_tokens": torch.cat([flags.bool() for flags in self._flags()]),
            "lengths": self.lengths,
            **({} if self.old_log_probabilities is None else {OLD: self.old_log_probabilities}),
            **{field.name: getattr(self.rows, field.name) for field in fields(self.rows)},
        }

    def _flags(self) -> list[Tensor]:
        """Return whether each token of each response is learned."""
        return [torch.tensor(tree.flags(number)) for tree in self.trees for number in range(len(tree.responses))]

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Experience":
        """Take back what ``to_tensors`` returned."""
        prompts = tensors["prompt_tokens"].split(tensors["prompt_lengths"].tolist())
        sizes, counts = tensors["response_lengths"].tolist(), tensors["responses_per_prompt"].tolist()
        responses = [tuple(part.tolist()) for part in tensors["response_tokens"].split(sizes)]
        flags = [tuple(part.tolist()) for part in tensors["learned_tokens"].split(sizes)]
        groups, learned, first = [], [], 0
        for count in counts:
            own = slice(first, first + count)
            groups.append(tuple(responses[own]))
            learned.append(None if all(map(all, flags[own])) else tuple(flags[own]))
            first += count
        trees = numbered_trees([tuple(p.tolist()) for p in prompts], groups, learned)
        rows = ResponseRows(**{field.name: tensors[field.name] for field in fields(ResponseRows)})
        return cls(trees, tensors["lengths"], rows, tensors.get(OLD))


def numbered_trees(
    prompts: Sequence[tuple[int, ...]], groups: Sequence[Any], learned: Sequence[Any] | None = None
) -> list[PromptTree]:
    """Return a tree per prompt whose fields say at which number its responses start; ``learned`` holds their flags."""
    trees, first = [], 0
    for prompt, responses, flags in zip(prompts, groups, learned or [None] * len(groups), strict=True):
        trees.append(PromptTree(prompt, tuple(responses), {"first_response": first}, flags))
        first += len(responses)
    return trees


def trees_of(groups: Sequence[Sequence[Sample]]) -> list[PromptTree]:
    """Return a numbered tree per group of samples that answer one prompt."""
    prompts = [group[0].prompt_ids for group in groups]
    responses = [tuple(sample.response_ids for sample in group) for group in groups]
    return numbered_trees(prompts, responses, [learned_flags(group) for group in groups])
