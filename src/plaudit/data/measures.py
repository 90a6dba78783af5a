"""Measures of rows that are read one after another. Memory grows by a few bytes a row: keys of prompts and contents."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.contradictions import Contradictions, contradictions, judgement_keys
from plaudit.data.encoding import Encoder
from plaudit.data.limits import TreesInMemory
from plaudit.data.rows import Row
from plaudit.data.selection import Indices
from plaudit.data.splits import Keys, earlier, groups_of, key_of, prompt_key
from plaudit.data.store.codec import encoded
from plaudit.data.template_checks import unfaithful_refusal
from plaudit.data.templates import Renderer, human_assistant_text
from plaudit.data.tokenization import check_eos_token, tokenized_completely, within_limits
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.data.unwritten import Unwritten, WrittenCounter

NO_LIMIT = 10**9
"""Tokenizers without a maximum length report a number of at least this size."""

_MOST_KEPT, _FEWEST_KEPT = 4096, 16
_MOST_CHARACTERS = 1 << 23


@dataclass(frozen=True)
class Lengths:
    """Minimum, median, mean, 95th percentile and maximum of lengths."""

    shortest: int
    median: int
    mean: float
    percentile_95: int
    longest: int


class LengthCounts:
    """How often each length occurs, by what was measured. All of ``Lengths`` is exact."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}

    def add(self, what: str, lengths: Iterable[int]) -> None:
        """Count lengths."""
        self._counts.setdefault(what, Counter()).update(lengths)

    def summary(self) -> dict[str, Lengths]:
        """Return the lengths of everything that was measured."""
        return {what: _summary(counts) for what, counts in self._counts.items() if counts}


def _summary(counts: Counter[int]) -> Lengths:
    lengths = np.array(sorted(counts))
    ends = np.array([*accumulate(counts[length] for length in lengths.tolist())])
    number = int(ends[-1])
    total = sum(length * times for length, times in counts.items())

    def at(index: int) -> int:
        return int(lengths[np.searchsorted(ends, index, side="right")])

    return Lengths(at(0), at((number - 1) // 2), total / number, at(round(0.95 * (number - 1))), at(number - 1))


def texts_of(row: Row) -> Iterator[tuple[str, str]]:
    """Yield every text of a row with its name: "text", or "prompt" and "response"."""
    if row.prompt is not None:
        yield "prompt", row.prompt if isinstance(row.prompt, str) else human_assistant_text(row.prompt).strip()
    yield from (("text" if row.prompt is None else "response", response) for response in row.responses)


class RowMeasures:
    """Lengths in characters, keys of prompts, contents and judgements, and rows by their number.

    ``kept`` are all rows, or evenly spaced ones if they are many or long. ``samples`` is how many are needed at least.
    """

    def __init__(self, samples: int) -> None:
        self.lengths, self.rows = LengthCounts(), 0
        self._prompts, self._contents = bytearray(), bytearray()
        self._judgements: list[Any] = []
        self.kept, self._every, self._fewest = dict[int, Row](), 1, max(samples, _FEWEST_KEPT)
        self._characters = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Measure rows, which follow those that were measured before."""
        texts = [prompt_key(row) for row in rows]
        prompts = [key_of(text) for text in texts]
        self._prompts += b"".join(prompts)
        self._contents += b"".join([key_of(encoded(row)) for row in rows])
        keys = chain.from_iterable(map(judgement_keys, rows, prompts))
        self._judgements.append(np.fromiter(keys, np.uint64))
        own = [len(row.prompt if isinstance(row.prompt, str) else text) for row, text in zip(rows, texts, strict=True)]
        what = "text" if rows and rows[0].prompt is None else "prompt"
        self.lengths.add(f"{what}, characters", own)
        if what == "prompt":
            self.lengths.add("response, characters", [len(text) for row in rows for text in row.responses])
        for number, row in enumerate(rows, self.rows):
            if number % self._every == 0:
                self._keep(number, row)
        self.rows += len(rows)

    def _keep(self, number: int, row: Row) -> None:
        self.kept[number] = row
        self._characters += _size(row)
        while len(self.kept) > self._fewest and (
            len(self.kept) > _MOST_KEPT + self._fewest or self._characters > _MOST_CHARACTERS
        ):
            self._every *= 2
            self.kept = {number: row for number, row in self.kept.items() if number % self._every == 0}
            self._characters = sum(map(_size, self.kept.values()))

    @property
    def prompts(self) -> Keys:
        """The keys of all prompts."""
        return np.frombuffer(self._prompts, np.uint8).reshape(-1, 16)

    @property
    def contents(self) -> Keys:
        """The keys of the contents of all rows."""
        return np.frombuffer(self._contents, np.uint8).reshape(-1, 16)

    def different_prompts(self) -> int:
        """Return the number of different prompts."""
        return int(groups_of(self.prompts).max(initial=-1)) + 1

    def contradictions(self) -> Contradictions | None:
        """Return how many judgements contradict each other; None without judgements."""
        found = contradictions(np.concatenate(self._judgements)) if self._judgements else Contradictions(0, 0)
        return found if found.judged else None

    def duplicates_and_samples(self, samples: int) -> tuple[int, list[Row]]:
        """Return the number of rows that equal an earlier one, and some of the others, spread evenly."""
        copies: Indices = earlier(groups_of(self.contents))
        different = [row for number, row in self.kept.items() if not copies[number]]
        samples = min(samples, len(different))
        spread = [different[index * len(different) // samples] for index in range(samples)]
        return int(np.count_nonzero(copies)), spread


def _size(row: Row) -> int:
    return sum(len(text) for _, text in texts_of(row))


class TokenMeasures:
    """What a tokenizer makes of rows: lengths in tokens, and what it cannot write. ``first`` is the first row.

    ``overlong`` counts the rows that are longer than ``context_length``.
    """

    def __init__(self, tokenizer: Any, context_length: int | None) -> None:
        check_eos_token(tokenizer)
        self._tokenizer, self.context_length = tokenizer, context_length
        self._config = DataConfig(sources=[SourceConfig(path="-")])
        self._renderer = Renderer(tokenizer, self._config)
        self._encoder = Encoder(self._renderer.special, tokenizer)
        self._written = WrittenCounter(tokenizer, Unwritten())
        self._indistinct: Counter[str] = Counter()
        self._rows = 0
        self.lengths, self.overlong = LengthCounts(), 0
        self.first: TokenizedRow[Row] | None = None

    def add(self, rows: Sequence[Row]) -> None:
        """Measure rows, which follow those that were measured before."""
        found = TreesInMemory([row for _, row in tokenized_completely(rows, self._renderer, self._encoder)])
        done = within_limits(found, np.arange(len(found)), self._tokenizer, self._config, NO_LIMIT)
        self._indistinct.update(done.counted)
        self._rows += len(rows)
        self._written.add(done.rows)
        for row in done.rows:
            self.first = self.first or row
            responses = [len(response) for response in row.tree.responses]
            self.lengths.add("prompt, tokens", [len(row.tree.prompt)])
            self.lengths.add("response, tokens", responses)
            length = len(row.tree.prompt) + max(responses, default=0)
            self.overlong += self.context_length is not None and length > self.context_length

    @property
    def written(self) -> Unwritten:
        """What the tokenizer cannot write."""
        return self._written.total

    @property
    def counted(self) -> dict[str, int]:
        """What was noticed while the rows were rendered and compared, and how often."""
        return self._renderer.counted + self._indistinct

    @property
    def unfaithful(self) -> str:
        """See ``Renderer``."""
        return self._renderer.unfaithful

    def refusal(self, source: str, config: DataConfig) -> str | None:
        """Return why a stage would not train on the rows; None if it would."""
        unfaithful = unfaithful_refusal(
            source, self._renderer.counted, self._renderer.unfaithful, self._rows, config.max_bad_fraction
        )
        return unfaithful or self.written.refusal(source, config.max_unknown_fraction)
