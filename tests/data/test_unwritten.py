"""Unknown tokens, dropped characters and single bytes are counted."""

from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.rows import Message, Origin, ResponseRow
from plaudit.data.tokenization import UNWRITTEN, tokenize_rows
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.data.unwritten import Unwritten, unwritten
from plaudit.errors import PlauditError
from tiny_tokenizers import byte_level, letters_only, space_in_front

CONFIG = DataConfig.model_validate({"sources": ["f"]})


def counted(tokenizer: Any, *rows: ResponseRow) -> Unwritten:
    return unwritten(tokenize_rows(rows, tokenizer, CONFIG, 1000).rows, tokenizer)


def row(prompt: Any, response: str) -> ResponseRow:
    return ResponseRow(prompt, response, Origin("f", 1))


def words(unknown: str | None, tokens: Sequence[str], **special: str) -> Any:
    model = models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=unknown or "<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", **special)


def test_unknown_tokens_and_single_bytes_are_counted() -> None:
    tokenizer = words("<unk>", ["<unk>", "</s>", "sky", "<0xE7>", "<0x0A>"], unk_token="<unk>")
    trees = [PromptTree((2, 0), ((0, 1), (3, 4, 1))), PromptTree((2, 2), ((2, 1),))]
    found = unwritten([TokenizedRow(row("", ""), tree, "") for tree in trees], tokenizer)
    assert (found.tokens, found.unknown, found.single_bytes) == (11, 2, 1)
    assert found.unknown_fraction == 2 / 11
    assert found.byte_fraction == 1 / 11


def test_the_unknown_token_of_the_vocabulary_counts_if_the_tokenizer_names_none() -> None:
    found = counted(words("<unk>", ["<unk>", "</s>", "sky"]), row("sky", "sea sky"))
    assert (found.tokens, found.unknown) == (4, 1)


def test_an_unknown_token_that_is_also_the_end_is_not_counted() -> None:
    assert counted(byte_level(unk_token="<end>"), row("a", "b")).unknown == 0


def test_dropped_characters_are_counted() -> None:
    found = counted(letters_only(), row("ab C", " 12\n\u4f60a"), row((Message("user", "\u4f60 d"),), "e"))
    # Without white space: abC, 12\u4f60a, \u4f60d, e; the small letters are written.
    assert (found.characters, found.dropped) == (10, 5)
    assert found.dropped_fraction == 0.5
    assert found.refusal("f", 0.5) is None
    refused = found.refusal("f", 0.49)
    assert refused is not None
    assert refused.startswith("f: the tokenizer cannot write 50.0% of the characters")
    assert "max_unknown_fraction=0.49" in refused


def test_rows_of_which_a_text_is_dropped_are_dropped() -> None:
    rows = [row("a", "12"), row("12", "a"), row("a 1", "b"), row("a", "1c")]
    done = tokenize_rows(rows, letters_only(), CONFIG, 1000)
    assert [found.row for found in done.rows] == rows[2:]
    assert done.counted == {UNWRITTEN: 2}
    with pytest.raises(PlauditError, match="f: no row is left of 2: 2 rows dropped: the tokenizer drops all"):
        tokenize_rows(rows[:2], letters_only(), CONFIG, 1000)


def test_bytes_and_unknown_tokens_drop_nothing() -> None:
    text = row("caf\u00e9 \u4f60\u597d \U0001f600", "e\u0301 \u200d\ufeff")
    assert counted(byte_level(), text).dropped == 0
    found = counted(space_in_front(), text)
    assert found.dropped == 0
    assert found.unknown > 0


def test_a_vocabulary_of_words_without_an_unknown_token_is_refused() -> None:
    with pytest.raises(PlauditError, match=r"cannot write a text of the data .*choose a tokenizer"):
        counted(words(None, ["</s>", "sky"]), row("sky", "sea"))
