"""Sampled choices: random responses, ranked or labelled as the Bradley-Terry model of their rewards says.

The responses are drawn uniformly, not from the reference: every one is judged often, and the optimum is the same.
"""

from dataclasses import replace

import torch
from torch import Tensor

from plaudit.algorithms.preference_registry import PREFERENCE_LOSSES
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DpoConfig
from plaudit.lab.entries import Entry
from plaudit.lab.problem import PROMPTS, Problem, prompt_ids, responses
from plaudit.models.loading import LoadedModel
from plaudit.seeding import torch_generator
from plaudit.training.examples import Examples
from plaudit.training.preference_examples import prepared
from plaudit.training.run_directory import StageDirectory
from plaudit.training.session import Session
from plaudit.training.token_budget import TokenBudget


def preference_examples(
    entry: Entry,
    problem: Problem,
    seed: int,
    count: int,
    loaded: LoadedModel,
    session: Session,
    stage: StageDirectory,
    config: DpoConfig,
) -> Examples:
    """Return ``count`` prompts with choices: enough for one pass, so that no choice is seen twice.

    They enter where a data file would, after it has been read and tokenised: files know no empty response.
    """
    parts = {"training": sampled_choices(entry, problem, seed, count)}
    objective, budget = PREFERENCE_LOSSES[config.loss], TokenBudget(config.token_budget)
    ready = prepared(objective, parts, loaded, session, stage, budget)
    return Examples(ready["training"], [], [], [])


def sampled_choices(entry: Entry, problem: Problem, seed: int, count: int) -> list[PromptTree]:
    """Return trees of ``entry.group`` responses, all equally likely: ranked, or with one response labelled.

    A ranking sorts reward plus Gumbel noise, which is the Plackett-Luce model; each of its pairs is then a
    Bradley-Terry choice, ``P(i above j) = sigmoid(r_i - r_j)``. A label says that the response beat another one, which
    is not shown.
    """
    generator = torch_generator(seed, problem.number, "choices")
    drawn, rewards = _drawn(problem, count, max(entry.group, 2), generator)
    uniform = torch.rand(rewards.shape, generator=generator, dtype=torch.float64)
    utilities = rewards - torch.log(-torch.log(uniform))
    ranks = (utilities[:, None, :] > utilities[:, :, None]).sum(-1)
    flipped = torch.rand(len(ranks), generator=generator) < entry.flips
    ranks[flipped] = ranks.shape[1] - 1 - ranks[flipped]
    everything = list(responses())
    trees = []
    for row, (numbers, places) in enumerate(zip(drawn.tolist(), ranks.tolist(), strict=True)):
        prompt, answers = prompt_ids(PROMPTS[row % len(PROMPTS)]), tuple(everything[number] for number in numbers)
        tree = PromptTree(prompt, answers, {"ranks": tuple(places)})
        trees.append(tree if entry.group > 1 else _labelled(tree))
    return trees


def _drawn(problem: Problem, count: int, group: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the numbers of the responses drawn, [count, group], prompts taking turns, and their rewards."""
    turns = torch.arange(count) % len(PROMPTS)
    drawn = torch.randint(problem.rewards.shape[1], (count, group), generator=generator)
    return drawn, problem.rewards[turns[:, None], drawn]


def _labelled(tree: PromptTree) -> PromptTree:
    return replace(tree, responses=tree.responses[:1], fields={"desirable": (tree.fields["ranks"][0] == 0,)})
