"""The prompt trees of a source's rows on disk: all tokens of every row, before any limit is applied."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.encoding import Encoder
from plaudit.data.indistinct import critical_lengths
from plaudit.data.rows import Row
from plaudit.data.selection import Indices, Joined, Lazy, in_blocks
from plaudit.data.store.building import Chunk, Store, built
from plaudit.data.store.columns import BYTES, FLAGS, LENGTHS, NUMBERS, Array, ColumnType, Ragged, Starts, joined
from plaudit.data.store.rows import StoredRows
from plaudit.data.templates import Renderer
from plaudit.data.tokenization import check_eos_token, tokenized_completely, with_final_turn_alone
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.data.unwritten import Unwritten, WrittenCounter

R = TypeVar("R", bound=Row)

_SMALL_VOCABULARY = 1 << 16


def _columns(vocabulary: int) -> dict[str, ColumnType]:
    """Return the columns. A text is a prompt or a response; every tree has the texts of its prompt and responses."""
    return {
        "tokens": ColumnType("<u2" if vocabulary <= _SMALL_VOCABULARY else "<i4"),
        "text_lengths": LENGTHS,
        "texts": LENGTHS,
        "rows": NUMBERS,
        "prompt_tokens": LENGTHS,
        "longest_response": LENGTHS,
        "learned": FLAGS,
        "learned_lengths": LENGTHS,
        "prompt_texts": BYTES,
        "prompt_text_lengths": LENGTHS,
        "is_row_prompt": FLAGS,
        "indistinct_at": LENGTHS,
        "nothing_left_at": LENGTHS,
    }


class StoredTrees(Lazy[TokenizedRow[R]]):
    """The tokenized rows of one source, in order; a row may have several trees, or none.

    ``rows`` [N]: the index of each tree's row. ``prompt_tokens`` [N] and ``longest_response`` [N]: lengths in tokens.
    ``indistinct_at`` [N] and ``nothing_left_at`` [N]: see ``critical_lengths``. ``counted``: what was noticed while the
    rows were rendered. ``unfaithful``: see ``Renderer``. ``written``: how much of them the tokenizer cannot write.
    """

    def __init__(self, store: Store, rows: Sequence[R]) -> None:
        columns = store.columns
        self.folder, self._source, self.row_count = store.folder, rows, len(rows)
        self._texts = Ragged(columns["tokens"], columns["text_lengths"])
        self._learned = Ragged(columns["learned"], columns["learned_lengths"])
        self._prompt_texts = Ragged(columns["prompt_texts"], columns["prompt_text_lengths"])
        self._is_row_prompt = columns["is_row_prompt"].all()
        self._first_text = Starts(columns["texts"].all())
        self.rows = columns["rows"].all()
        self.indistinct_at = columns["indistinct_at"].all()
        self.nothing_left_at = columns["nothing_left_at"].all()
        self.prompt_tokens = columns["prompt_tokens"].all()
        self.longest_response = columns["longest_response"].all()
        self.counted: dict[str, int] = store.facts.get("counted", {})
        self.unfaithful: str = store.facts.get("unfaithful", "")
        self.written = Unwritten(**store.facts.get("written", {}))

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> TokenizedRow[R]:
        """Return a row with its tokens."""
        row = self._source[int(self.rows[index])]
        if self._is_row_prompt[index]:
            assert isinstance(row.prompt, str)
            text = row.prompt
        else:
            text = self._prompt_texts[index].tobytes().decode("utf-8")
        return TokenizedRow(row, self.tree(index), text)

    def tree(self, number: int) -> PromptTree:
        """Return the tokens of a row."""
        first = self._first_text[number]
        end = first + int(self._first_text.lengths[number])
        tokens = iter(self._texts.between(first, end).tolist())
        prompt, *responses = (tuple(islice(tokens, length)) for length in self._texts.lengths[first:end].tolist())
        if not self._learned.lengths[number]:
            return PromptTree(prompt, tuple(responses))
        flags = iter(self._learned[number].astype(bool).tolist())
        return PromptTree(prompt, tuple(responses), tuple(tuple(islice(flags, len(text))) for text in responses))


class JoinedTrees(Joined[TokenizedRow[R]]):
    """The tokenized rows of several sources, one after another."""

    def __init__(self, sources: Sequence[StoredTrees[R]]) -> None:
        super().__init__(sources)
        self.prompt_tokens = joined([source.prompt_tokens for source in sources])
        self.longest_response = joined([source.longest_response for source in sources])
        self.indistinct_at = joined([source.indistinct_at for source in sources])
        self.nothing_left_at = joined([source.nothing_left_at for source in sources])
        starts = [0, *accumulate(source.row_count for source in sources)]
        numbers = (
            source.rows + start if start else source.rows for start, source in zip(starts, sources, strict=False)
        )
        self._rows = joined(list(numbers))

    def of_rows(self, rows: Indices) -> Indices:
        """Return the indices of the trees of rows, which are numbered through all sources."""
        return in_blocks(lambda part: self._of_rows(rows[part]), len(rows))

    def _of_rows(self, rows: Indices) -> Indices:
        first, end = (np.searchsorted(self._rows, rows, side) for side in ("left", "right"))
        counts = end - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Indices = np.repeat(first, counts) + within
        return found


def stored_trees(
    rows: StoredRows[R], tokenizer: Any, config: DataConfig, all_turns: bool, folder: Path
) -> StoredTrees[R]:
    """Return the trees of rows from the store in a folder, which is built first if it is not there.

    ``all_turns``: whether the assistant's turns before the response are learned where rows allow it. Raises
    PlauditError if a row cannot be rendered, or if the tokenizer has no EOS token.
    """

    def chunks(done: int, facts: Mapping[str, Any]) -> Iterator[Chunk]:
        """Render and tokenize the rows after the first ``done`` chunks."""
        renderer = Renderer(tokenizer, config)
        renderer.counted, renderer.unfaithful = Counter(facts.get("counted", {})), facts.get("unfaithful", "")
        encoder = Encoder(renderer.special, tokenizer, facts.get("each_text_once"))
        written = WrittenCounter(tokenizer, Unwritten(**facts["written"]) if facts else Unwritten())
        end = facts.get("rows", 0)
        while end < len(rows):
            start, end = end, rows.end_of_part(end)
            part = list(rows[start:end])
            given = part if all_turns else [with_final_turn_alone(row) for row in part]
            numbered = tokenized_completely(given, renderer, encoder)
            written.add([row for _, row in numbered])
            yield Chunk(
                _values([(start + index, row) for index, row in numbered]),
                {
                    "counted": {what: number for what, number in renderer.counted.items() if number},
                    "unfaithful": renderer.unfaithful,
                    "written": asdict(written.total),
                    "each_text_once": encoder.each_text_once,
                    "rows": end,
                },
                (start + len(part)) / len(rows),
            )

    check_eos_token(tokenizer)
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    return StoredTrees(built(folder, _columns(vocabulary), chunks), rows)


def _values(numbered: Sequence[tuple[int, TokenizedRow[Any]]]) -> dict[str, Array]:
    trees = [row.tree for _, row in numbered]
    texts = [text for tree in trees for text in (tree.prompt, *tree.responses)]
    learned = [[flag for flags in tree.learned or () for flag in flags] for tree in trees]
    same = [row.prompt_text == row.row.prompt for _, row in numbered]
    critical = np.array([critical_lengths(row.row, row.tree) for _, row in numbered], np.int64).reshape(-1, 2)
    prompts = [b"" if is_same else row.prompt_text.encode() for (_, row), is_same in zip(numbered, same, strict=True)]
    return {
        "tokens": np.fromiter(chain.from_iterable(texts), np.int64),
        "text_lengths": np.array([len(text) for text in texts], np.uint32),
        "texts": np.array([1 + len(tree.responses) for tree in trees], np.uint32),
        "rows": np.array([index for index, _ in numbered], np.int64),
        "prompt_tokens": np.array([len(tree.prompt) for tree in trees], np.uint32),
        "longest_response": np.array([max(map(len, tree.responses), default=0) for tree in trees], np.uint32),
        "learned": np.fromiter(chain.from_iterable(learned), np.uint8),
        "learned_lengths": np.array([len(flags) for flags in learned], np.uint32),
        "prompt_texts": np.frombuffer(b"".join(prompts), np.uint8),
        "prompt_text_lengths": np.array([len(text) for text in prompts], np.uint32),
        "is_row_prompt": np.array(same, np.uint8),
        "indistinct_at": critical[:, 0],
        "nothing_left_at": critical[:, 1],
    }
