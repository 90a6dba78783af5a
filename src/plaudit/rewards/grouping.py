"""Groups samples into prompt trees, so that a prompt with several responses is computed once."""

from collections.abc import Sequence
from itertools import groupby

from plaudit.batching.trees import PromptTree
from plaudit.rollouts.samples import Sample, learned_flags


def samples_to_trees(samples: Sequence[Sample], most_responses: int) -> list[PromptTree]:
    """Return trees that together hold the responses of ``samples`` in their order.

    Consecutive samples with equal ``prompt_ids`` share a tree, with at most ``most_responses`` responses per tree.
    """
    trees = []
    for prompt, group in groupby(samples, key=lambda sample: sample.prompt_ids):
        own = list(group)
        for start in range(0, len(own), most_responses):
            part = own[start : start + most_responses]
            responses = tuple(sample.response_ids for sample in part)
            trees.append(PromptTree(prompt, responses, learned=learned_flags(part)))
    return trees


def padded_positions(samples: Sequence[Sample], rows: int) -> int:
    """Return the token positions of ``rows`` rows padded to the longest sample, a budget for any ``rows`` samples."""
    return rows * max((len(sample.prompt_ids) + len(sample.response_ids) for sample in samples), default=1)
