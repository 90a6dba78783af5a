"""Prompt trees as direct preference optimisation takes them: decided, with their reference, with mismatched partners.

A tree's ``fields`` hold ``ranks`` (of labels: 0 desirable, 1 not). For losses with a reference they hold ``reference``,
the log-probabilities of its responses; for losses that read labels ``mismatched``, a tree of its own with the response
to another prompt.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from plaudit.algorithms.catalogue import PreferenceLossEntry
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import Section
from plaudit.models.loading.models import LoadedModel
from plaudit.runs.context import StageContext
from plaudit.seeding import python_generator
from plaudit.training.reference_log_probabilities import reference_log_probabilities
from plaudit.training.token_budget import TokenBudget

logger = logging.getLogger(__name__)


def prepared(
    context: StageContext[Section],
    objective: PreferenceLossEntry,
    parts: Mapping[str, Sequence[PromptTree]],
    loaded: LoadedModel,
    budget: TokenBudget,
) -> dict[str, list[PromptTree]]:
    """Return the trees of every part with all that the objective's loss reads of them; a part's name is for messages.

    What the reference says is computed, or read where it has been computed before.
    """
    kept = {name: _decided(context, trees, name) for name, trees in parts.items()}
    if objective.reads == "labels":
        kept = {name: with_mismatched(trees, loaded.context_length, context.seed) for name, trees in kept.items()}
    return _with_reference(context, kept, loaded, budget) if objective.needs_reference else kept


def _decided(context: StageContext[Section], trees: Sequence[PromptTree], name: str) -> list[PromptTree]:
    """Return the trees that say something, with labels turned into ranks; how many do not is printed.

    Sides may have become identical by being cut, and all ranks may be tied.
    """
    kept = [_with_ranks(tree) for tree in trees if not _is_identical_or_tied(tree)]
    if context.session.is_main and len(kept) < len(trees):
        dropped = len(trees) - len(kept)
        logger.info("%s: %d %s prompts dropped: all responses identical or tied", context.name, dropped, name)
    return kept


def _is_identical_or_tied(tree: PromptTree) -> bool:
    identical = len(tree.responses) > 1 and len(set(tree.responses)) == 1
    return identical or ("ranks" in tree.fields and len(set(tree.fields["ranks"])) == 1)


def _with_ranks(tree: PromptTree) -> PromptTree:
    if "ranks" in tree.fields:
        return tree
    return _with_fields(tree, ranks=tuple(0 if desirable else 1 for desirable in tree.fields["desirable"]))


def with_mismatched(trees: Sequence[PromptTree], context_length: int, seed: int) -> list[PromptTree]:
    """Give every tree a mismatched one: its prompt with a response to another prompt, the same in every epoch.

    The response is cut where the context ends. A prompt that has no other beside it keeps a response of its own.
    """
    order = list(range(len(trees)))
    python_generator(seed, "mismatched").shuffle(order)
    paired = list(trees)
    for place, index in enumerate(order):
        tree = trees[index]
        others = (trees[order[(place + step) % len(order)]] for step in range(1, len(order) + 1))
        other = next((other for other in others if other.prompt != tree.prompt), tree)
        response = other.responses[place % len(other.responses)][: context_length - len(tree.prompt)]
        paired[index] = _with_fields(tree, mismatched=PromptTree(tree.prompt, (response,)))
    return paired


def _with_reference(
    context: StageContext[Section],
    parts: dict[str, list[PromptTree]],
    loaded: LoadedModel,
    budget: TokenBudget,
) -> dict[str, list[PromptTree]]:
    """Return the trees of every part with what the reference says of them and of their mismatched trees."""
    groups = dict(parts)
    for name, trees in parts.items():
        groups[f"{name} mismatched"] = [tree.fields["mismatched"] for tree in trees if "mismatched" in tree.fields]
    found = reference_log_probabilities(context, groups, loaded, budget)
    filled = {name: _filled(trees, found[name]) for name, trees in groups.items()}
    for name in parts:
        partners = filled[f"{name} mismatched"]
        if partners:
            pairs = zip(filled[name], partners, strict=True)
            filled[name] = [_with_fields(tree, mismatched=partner) for tree, partner in pairs]
    return {name: filled[name] for name in parts}


def _filled(trees: Sequence[PromptTree], log_probabilities: Tensor) -> list[PromptTree]:
    numbers = iter(log_probabilities.tolist())
    return [_with_fields(tree, reference=tuple(next(numbers) for _ in tree.responses)) for tree in trees]


def _with_fields(tree: PromptTree, **fields: Any) -> PromptTree:
    return replace(tree, fields={**tree.fields, **fields})
