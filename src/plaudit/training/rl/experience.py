"""What one iteration has collected, and how it outlives a checkpoint in the middle of the epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plaudit.batching.ragged import response_mask
from plaudit.batching.trees import PromptTree


@dataclass(frozen=True)
class Experience:
    """Rollouts of all processes, with everything that the losses compare against.

    ``trees`` holds a prompt with its responses each; their ``fields["first_response"]`` is the number of the first
    response. With R responses, the longest of T tokens: ``log_probabilities``, ``advantages``, ``returns`` and
    ``values`` are [R, T], zero behind the end of a response; ``lengths`` is [R]. ``values`` and ``returns`` are zero
    for estimators without values.
    """

    trees: list[PromptTree]
    lengths: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor

    @property
    def mask(self) -> Tensor:
        """True on real tokens, [R, T]."""
        return response_mask(self.lengths, self.log_probabilities.shape[1])

    def rows(self, trees: Sequence[PromptTree]) -> Tensor:
        """Return the response numbers of the given trees, in their order."""
        numbers = [t.fields["first_response"] + k for t in trees for k in range(len(t.responses))]
        return torch.tensor(numbers)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors; ``from_tensors`` takes it back."""
        prompts = [torch.tensor(tree.prompt) for tree in self.trees]
        responses = [torch.tensor(response) for tree in self.trees for response in tree.responses]
        return {
            "prompt_tokens": torch.cat(prompts),
            "prompt_lengths": torch.tensor([len(prompt) for prompt in prompts]),
            "responses_per_prompt": torch.tensor([len(tree.responses) for tree in self.trees]),
            "response_tokens": torch.cat(responses),
            "lengths": self.lengths,
            "log_probabilities": self.log_probabilities,
            "advantages": self.advantages,
            "returns": self.returns,
            "values": self.values,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Experience":
        """Take back what ``to_tensors`` returned."""
        prompts = tensors["prompt_tokens"].split(tensors["prompt_lengths"].tolist())
        responses = tensors["response_tokens"].split(tensors["lengths"].tolist())
        counts = tensors["responses_per_prompt"].tolist()
        groups, first = [], 0
        for count in counts:
            groups.append(tuple(tuple(r.tolist()) for r in responses[first : first + count]))
            first += count
        trees = numbered_trees([tuple(p.tolist()) for p in prompts], groups)
        rows = ("lengths", "log_probabilities", "advantages", "returns", "values")
        return cls(trees, **{name: tensors[name] for name in rows})


def numbered_trees(prompts: Sequence[tuple[int, ...]], groups: Sequence[Any]) -> list[PromptTree]:
    """Return a tree per prompt whose fields say at which number its responses start."""
    trees, first = [], 0
    for prompt, responses in zip(prompts, groups, strict=True):
        trees.append(PromptTree(prompt, tuple(responses), {"first_response": first}))
        first += len(responses)
    return trees
