"""Tokenizers without a padding token get one that changes no result."""

import pytest

from plaudit.models.loading.padding import with_padding_token
from tiny_tokenizers import byte_level


def test_a_tokenizer_without_padding_token_pads_with_an_unused_token_or_eos(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        tokenizer = byte_level()
        tokenizer.pad_token = None
        with_padding_token(tokenizer, "mine")
        assert tokenizer.pad_token == "<end>"
        assert "mine" in caplog.text
        assert "<end>" in caplog.text
        tokenizer = byte_level()
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|pad|>"]})
        tokenizer.pad_token = None
        with_padding_token(tokenizer, "mine")
        assert tokenizer.pad_token == "<|pad|>"
        caplog.clear()
        tokenizer.pad_token = "<turn>"
        with_padding_token(tokenizer, "mine")
        assert (tokenizer.pad_token, caplog.text) == ("<turn>", "")
