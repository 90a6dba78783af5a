"""Targets of direct preference optimization: ranks, reference log-probabilities and mismatched responses."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from plaudit.algorithms.catalogue import PreferenceLossEntry
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import Section
from plaudit.data.rows import LabeledRow
from plaudit.data.rows.ranking import Ranks
from plaudit.runs.context import StageContext
from plaudit.seeding import python_generator
from plaudit.training.model_reader import ModelReader
from plaudit.training.reference_log_probabilities import SequenceModule, reference_log_probabilities

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mismatched:
    """A prompt with a response to another prompt. ``reference``: its log-probability in nats, None until computed."""

    tree: PromptTree
    reference: float | None = None


@dataclass(frozen=True)
class Preference:
    """The target of a prompt with K responses.

    ``ranks`` [K]; labels are ranks 0 (desirable) and 1 (undesirable). ``reference`` [K] is the reference's
    log-probability of each response in nats, for losses with a reference. ``mismatched`` is for losses that read
    labels.
    """

    ranks: Ranks
    reference: tuple[float, ...] | None = None
    mismatched: Mismatched | None = None


def label_ranks(row: LabeledRow) -> Ranks:
    """Return labels as ranks: 0 for desirable, 1 for undesirable."""
    return tuple(0 if desirable else 1 for desirable in row.desirable)


def prepared(
    context: StageContext[Section],
    objective: PreferenceLossEntry,
    parts: Mapping[str, Sequence[Example[Ranks]]],
    reader: ModelReader,
    module: SequenceModule,
) -> dict[str, list[Example[Preference]]]:
    """Return the examples of every part with all targets that the loss needs; messages use the names of the parts.

    ``module`` is the reader's model. Reference log-probabilities are computed or read from the stage's folder.
    """
    reads_labels = objective.reads == "labels"
    ready: dict[str, list[Example[Preference]]] = {}
    for name, examples in parts.items():
        kept = [example for example in examples if not _is_uninformative(example, reads_labels)]
        if context.session.is_main and len(kept) < len(examples):
            dropped = len(examples) - len(kept)
            logger.info("%s: %d %s prompts dropped: all responses identical or tied", context.name, dropped, name)
        ready[name] = [Example(example.tree, Preference(example.target)) for example in kept]
        if reads_labels:
            ready[name] = with_mismatched(ready[name], reader.loaded.context_length, context.seed)
    return _with_reference(context, ready, reader, module) if objective.needs_reference else ready


def _is_uninformative(example: Example[Ranks], reads_labels: bool) -> bool:
    """Return whether all responses are identical, possibly after truncation, or all have the same rank."""
    tree = example.tree
    different = {(response, tree.flags(number)) for number, response in enumerate(tree.responses)}
    identical = len(tree.responses) > 1 and len(different) == 1
    return identical or (not reads_labels and len(set(example.target)) == 1)


def with_mismatched(
    examples: Sequence[Example[Preference]], context_length: int, seed: int
) -> list[Example[Preference]]:
    """Give every prompt a mismatched response: a response to another prompt, the same in every epoch.

    The response is truncated at the end of the context. If there is no other prompt, it is one of the prompt's own
    responses.
    """
    order = list(range(len(examples)))
    python_generator(seed, "mismatched").shuffle(order)
    paired = list(examples)
    for position, index in enumerate(order):
        tree = examples[index].tree
        others = (examples[order[(position + step) % len(order)]].tree for step in range(1, len(order) + 1))
        other = next((other for other in others if other.prompt != tree.prompt), tree)
        mismatched = _answering(tree.prompt, other, position % len(other.responses), context_length)
        paired[index] = Example(tree, replace(examples[index].target, mismatched=Mismatched(mismatched)))
    return paired


def _answering(prompt: tuple[int, ...], other: PromptTree, number: int, context_length: int) -> PromptTree:
    """Return the prompt with a response of another tree, truncated at the end of the context."""
    limit = context_length - len(prompt)
    flags = None if other.learned is None else (other.learned[number][:limit],)
    return PromptTree(prompt, (other.responses[number][:limit],), learned=flags)


def _with_reference(
    context: StageContext[Section],
    parts: Mapping[str, Sequence[Example[Preference]]],
    reader: ModelReader,
    module: SequenceModule,
) -> dict[str, list[Example[Preference]]]:
    """Return the examples of every part with reference log-probabilities, including those of mismatched responses."""
    groups = {name: [example.tree for example in examples] for name, examples in parts.items()}
    for name, examples in parts.items():
        pairs = [example.target.mismatched for example in examples]
        groups[f"{name} mismatched"] = [pair.tree for pair in pairs if pair is not None]
    found = reference_log_probabilities(context, groups, reader, module)
    return {name: _filled(examples, found[name], found[f"{name} mismatched"]) for name, examples in parts.items()}


def _filled(
    examples: Sequence[Example[Preference]], reference: Tensor, of_mismatched: Tensor
) -> list[Example[Preference]]:
    numbers, others = iter(reference.tolist()), iter(of_mismatched.tolist())
    filled = []
    for example in examples:
        own, pair = tuple(next(numbers) for _ in example.tree.responses), example.target.mismatched
        other = None if pair is None else replace(pair, reference=next(others))
        filled.append(Example(example.tree, replace(example.target, reference=own, mismatched=other)))
    return filled
