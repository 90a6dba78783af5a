"""Random prompt trees, every way to batch them, and the results of plain transformers."""

import random

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree
from tiny_models import VOCABULARY

PACKABLE = ("llama", "gpt2", "gpt_neox", "qwen2", "opt")


def forest(seed: int = 0, count: int = 7) -> list[PromptTree]:
    generator = random.Random(seed)

    def tokens(longest: int) -> tuple[int, ...]:
        return tuple(generator.randrange(3, VOCABULARY) for _ in range(generator.randint(1, longest)))

    return [PromptTree(tokens(9), tuple(tokens(7) for _ in range(generator.randint(1, 4)))) for _ in range(count)]


def plain_log_probabilities(model: torch.nn.Module, trees: list[PromptTree]) -> list[Tensor]:
    """One unpadded sequence at a time through the whole model, log-softmax over all of its logits."""
    found = []
    for tree in trees:
        for response in tree.responses:
            logits = model(torch.tensor([tree.prompt + response])).logits[0]
            log_probabilities = logits.log_softmax(-1)[len(tree.prompt) - 1 : -1]
            found.append(log_probabilities.gather(-1, torch.tensor(response)[:, None])[:, 0])
    return found


def in_tree_order(batch: Batch, flat: Tensor) -> list[Tensor]:
    parts = iter(flat.split(batch.lengths.tolist()))
    by_tree = {
        i: [next(parts) for _ in tree.responses] for i, tree in zip(batch.tree_indices, batch.trees, strict=True)
    }
    return [part for index in sorted(by_tree) for part in by_tree[index]]


def layouts(trees: list[PromptTree]) -> dict[str, list[Batch]]:
    everything = range(len(trees))
    return {
        "one row": [PACKED.build(trees, [list(everything)])],
        "short rows": [build() for build in make_batches(trees, PACKED, 64, 32)],
        "padded": [PADDED.build(trees, everything)],
        "padded, small": [build() for build in make_batches(trees, PADDED, 40, 32)],
    }


def response_numbers(trees: list[PromptTree], batch: Batch) -> list[int]:
    starts = [sum(len(tree.responses) for tree in trees[:index]) for index in range(len(trees))]
    return [starts[i] + k for i in batch.tree_indices for k in range(len(trees[i].responses))]
