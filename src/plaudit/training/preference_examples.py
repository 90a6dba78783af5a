"""Targets of direct preference optimization: ranks, reference log-probabilities and mismatched responses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plaudit.algorithms.catalogue import PreferenceLossEntry
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import SupervisedStageConfig
from plaudit.data.rows import LabeledRow
from plaudit.data.rows.ranking import Ranks
from plaudit.data.selection import Indices, Lazy, Mapped, Selected
from plaudit.runs.context import StageContext
from plaudit.training import reference_log_probabilities as reference
from plaudit.training.examples import Examples, Schedule, shuffled
from plaudit.training.model_reader import ModelReader
from plaudit.training.reference_log_probabilities import LogProbabilities, SequenceModule

_SEARCHED = 256
"""A mismatched response is looked for among so many prompts."""


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


Preferences = Sequence[Example[Preference]]


def label_ranks(row: LabeledRow) -> Ranks:
    """Return labels as ranks: 0 for desirable, 1 for undesirable."""
    return tuple(0 if desirable else 1 for desirable in row.desirable)


def prepared(
    context: StageContext[SupervisedStageConfig],
    objective: PreferenceLossEntry,
    examples: Examples[Ranks],
    reader: ModelReader,
    module: SequenceModule,
) -> Examples[Preference]:
    """Return the examples with all targets that the loss needs; they are read when they are needed.

    ``module`` is the reader's model. Reference log-probabilities are computed or read from the stage's folder: those of
    the training examples that the stage's steps need, and of all held-out ones. Of few training examples, all are
    computed: the last bits depend on what is computed together, and should not depend on the number of steps.
    """
    parts: dict[str, Preferences] = {
        name: Mapped(part, lambda example: Example(example.tree, Preference(example.target)))
        for name, part in (("training", examples.train), ("held-out", examples.held_out))
    }
    if objective.reads == "labels":
        length = reader.loaded.context_length
        parts = {name: WithMismatched(part, length, context.seed) for name, part in parts.items()}
    if objective.needs_reference:
        few = len(examples.train) <= reference.TREES_AT_ONCE
        needed = {
            "training": np.arange(len(examples.train)) if few else Schedule.of(context, len(examples.train)).examples(),
            "held-out": np.arange(len(examples.held_out)),
        }
        parts = _with_reference(context, parts, needed, reader, module)
    return Examples(parts["training"], parts["held-out"])


class WithMismatched(Lazy[Example[Preference]]):
    """Gives every prompt a mismatched response: a response to another prompt, the same in every epoch.

    The response is truncated at the end of the context. If no other prompt is found, it is one of the prompt's own
    responses.
    """

    def __init__(self, examples: Preferences, context_length: int, seed: int) -> None:
        self._examples, self._context_length = examples, context_length
        self._order = np.asarray(shuffled(len(examples), (seed, "mismatched")))
        self._positions = np.empty_like(self._order)
        self._positions[self._order] = np.arange(len(examples))

    def __len__(self) -> int:
        return len(self._examples)

    def item(self, index: int) -> Example[Preference]:
        """Return an example with its mismatched response."""
        example, position = self._examples[index], int(self._positions[index])
        tree = example.tree
        following = self._order.take(range(position + 1, position + 1 + min(len(self), _SEARCHED)), mode="wrap")
        others = (self._examples[other].tree for other in following.tolist())
        other = next((other for other in others if other.prompt != tree.prompt), tree)
        mismatched = _answering(tree.prompt, other, position % len(other.responses), self._context_length)
        return Example(tree, replace(example.target, mismatched=Mismatched(mismatched)))


def _answering(prompt: tuple[int, ...], other: PromptTree, number: int, context_length: int) -> PromptTree:
    """Return the prompt with a response of another tree, truncated at the end of the context."""
    limit = context_length - len(prompt)
    flags = None if other.learned is None else (other.learned[number][:limit],)
    return PromptTree(prompt, (other.responses[number][:limit],), learned=flags)


class _WithReference(Lazy[Example[Preference]]):
    """Adds reference log-probabilities to the examples at ``needed`` [N], ascending; others cannot be read.

    ``own`` and ``of_mismatched`` are those of the needed examples and of their mismatched responses.
    """

    def __init__(
        self, examples: Preferences, needed: Indices, own: LogProbabilities, of_mismatched: LogProbabilities
    ) -> None:
        self._examples, self._needed, self._own, self._of_mismatched = examples, needed, own, of_mismatched

    def __len__(self) -> int:
        return len(self._examples)

    def item(self, index: int) -> Example[Preference]:
        """Return an example. Raises IndexError if it is not needed."""
        number = int(np.searchsorted(self._needed, index))
        if self._needed[number] != index:
            raise IndexError(f"no step of the stage reads example {index}, so it has no reference log-probabilities")
        example = self._examples[index]
        target, pair = replace(example.target, reference=self._own[number]), example.target.mismatched
        if pair is not None:
            target = replace(target, mismatched=replace(pair, reference=self._of_mismatched[number][0]))
        return Example(example.tree, target)


def _with_reference(
    context: StageContext[SupervisedStageConfig],
    parts: dict[str, Preferences],
    needed: dict[str, Indices],
    reader: ModelReader,
    module: SequenceModule,
) -> dict[str, Preferences]:
    """Add reference log-probabilities to the needed examples, including those of mismatched responses."""
    groups: dict[str, Sequence[PromptTree]] = {}
    for name, part in parts.items():
        examples = Selected(part, needed[name])
        groups[name] = Mapped(examples, lambda example: example.tree)
        groups[f"{name} mismatched"] = Mapped(examples, _mismatched_tree) if isinstance(part, WithMismatched) else ()
    found = reference.reference_log_probabilities(context, groups, reader, module)
    return {
        name: _WithReference(part, needed[name], found[name], found[f"{name} mismatched"])
        for name, part in parts.items()
    }


def _mismatched_tree(example: Example[Preference]) -> PromptTree:
    assert example.target.mismatched is not None
    return example.target.mismatched.tree
