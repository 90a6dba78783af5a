"""Cached token ids equal the tokenizer's, for any texts, options and tokenizer; small inputs are not cached."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.config.schema import DataConfig
from plaudit.data import token_cache
from plaudit.data.rows import Origin, RankingRow, Row, TextRow
from plaudit.data.token_cache import CachingTokenizer
from plaudit.data.tokenization import tokenize_rows
from tiny_tokenizers import byte_level, space_in_front

AT = Origin("rows.jsonl", 1)
TOKENIZERS = {"byte level": byte_level(), "space in front": space_in_front(), "adds EOS": space_in_front(add_eos=True)}
ROWS: list[Row] = [
    RankingRow("Once upon", (" a cat", " six."), (0, 1), AT),
    RankingRow("Once upon", (" a cat", ""), (1, 0), AT),
    TextRow("open sky\n", AT),
]


@pytest.fixture(autouse=True)
def keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "LEAST_CHARACTERS", 0)


class Counting:
    """A tokenizer that counts its texts."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.texts = tokenizer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, texts: Any, **options: Any) -> Any:
        self.texts += isinstance(texts, list) and len(texts)
        return self.tokenizer(texts, **options)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_trees_are_the_same_and_tokenized_once(name: str, tmp_path: Path) -> None:
    config = DataConfig.model_validate({"sources": ["rows.jsonl"]})
    expected = tokenize_rows(ROWS, TOKENIZERS[name], config, 100).trees
    first, second = Counting(TOKENIZERS[name]), Counting(TOKENIZERS[name])
    assert tokenize_rows(ROWS, CachingTokenizer(first, tmp_path), config, 100).trees == expected
    assert tokenize_rows(ROWS, CachingTokenizer(second, tmp_path), config, 100).trees == expected
    assert first.texts > 0
    assert second.texts == 0


TEXTS = st.lists(st.text(alphabet="ab \n", max_size=4), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(all_texts=st.lists(TEXTS, min_size=2, max_size=3), special=st.booleans())
def test_no_two_questions_share_an_answer(
    tmp_path_factory: pytest.TempPathFactory, all_texts: list[list[str]], special: bool
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    for _ in range(2):
        for texts in all_texts:
            for tokenizer in TOKENIZERS.values():
                options = {"add_special_tokens": special, "verbose": False}
                found = CachingTokenizer(tokenizer, folder)(texts, **options)["input_ids"]
                assert found == tokenizer(texts, **options)["input_ids"]


def test_short_texts_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "LEAST_CHARACTERS", 10)
    tokenizer = CachingTokenizer(TOKENIZERS["byte level"], tmp_path / "tokens")
    tokenizer(["123", "456"])
    tokenizer("one text alone, however long it is")
    assert not (tmp_path / "tokens").exists()
    tokenizer(["123", "4567890"])
    assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".safetensors"]
