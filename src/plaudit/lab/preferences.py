"""Sampled choices under the Bradley-Terry model of the rewards: all responses ranked, or one labeled.

All responses are judged equally often, unlike samples from the reference. This does not change the optimum.
"""

import torch

from plaudit.algorithms.catalogue import preference_loss
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import DpoConfig
from plaudit.data.rows.ranking import Ranks
from plaudit.lab.entries import Entry
from plaudit.lab.problem import PROMPTS, Problem, prompt_ids, responses
from plaudit.runs.context import StageContext
from plaudit.seeding import torch_generator
from plaudit.training.examples import Examples
from plaudit.training.model_reader import ModelReader
from plaudit.training.preference_examples import Preference, prepared
from plaudit.training.reference_log_probabilities import SequenceModule


def preference_examples(
    context: StageContext[DpoConfig],
    entry: Entry,
    problem: Problem,
    count: int,
    reader: ModelReader,
    module: SequenceModule,
) -> Examples[Preference]:
    """Return ``count`` prompts with choices: enough for one pass, so that no choice is seen twice.

    ``module`` is the reader's model, which is also the reference.

    They bypass the file readers, because data files cannot contain an empty response.
    """
    objective = preference_loss(context.config.loss)
    generator = torch_generator(context.seed, problem.number, "choices")
    if objective.reads == "labels":
        examples = sampled_labels(problem, count, generator)
    else:
        examples = sampled_rankings(problem, count, entry.flips, generator)
    return prepared(context, objective, Examples(examples, []), reader, module)


def sampled_rankings(problem: Problem, count: int, flips: float, generator: torch.Generator) -> list[Example[Ranks]]:
    """Return prompts with every response ranked, alternating between prompts; a fraction ``flips`` is reversed.

    A ranking sorts reward plus Gumbel noise, which is the Plackett-Luce model; each of its pairs is then a
    Bradley-Terry choice, ``P(i above j) = sigmoid(r_i - r_j)``.
    """
    turns = torch.arange(count) % len(PROMPTS)
    uniform = torch.rand(count, problem.rewards.shape[1], generator=generator, dtype=torch.float64)
    utilities = problem.rewards[turns] - torch.log(-torch.log(uniform))
    ranks = utilities.argsort(1, descending=True).argsort(1)
    flipped = torch.rand(count, generator=generator) < flips
    ranks[flipped] = ranks.shape[1] - 1 - ranks[flipped]
    everything = tuple(responses())
    return [
        Example(PromptTree(prompt_ids(PROMPTS[turn]), everything), tuple(places))
        for turn, places in zip(turns.tolist(), ranks.tolist(), strict=True)
    ]


def sampled_labels(problem: Problem, count: int, generator: torch.Generator) -> list[Example[Ranks]]:
    """Return prompts with one response each, of rank 0 if it won a comparison with another response, otherwise 1."""
    turns = torch.arange(count) % len(PROMPTS)
    everything = list(responses())
    shown = torch.randint(len(everything), (count,), generator=generator)
    other = (shown + torch.randint(1, len(everything), (count,), generator=generator)) % len(everything)
    gaps = problem.rewards[turns, shown] - problem.rewards[turns, other]
    desirable = torch.rand(count, generator=generator, dtype=torch.float64) < gaps.sigmoid()
    return [
        Example(PromptTree(prompt_ids(PROMPTS[turn]), (everything[number],)), (0 if label else 1,))
        for turn, number, label in zip(turns.tolist(), shown.tolist(), desirable.tolist(), strict=True)
    ]
