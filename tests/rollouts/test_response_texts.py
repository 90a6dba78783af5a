"""Response texts and stop strings, with a byte-level tokenizer whose tokens end inside characters."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plaudit.rollouts.texts import cut_at_stop, decode, first_stop, may_hold_stop, response_text


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, after the special token 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {letter: number for number, letter in enumerate(alphabet, 1)}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def test_special_tokens_are_not_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert decode(tokenizer, [*ids(tokenizer, "a b"), 0]) == "a b"
    assert response_text(tokenizer, ids(tokenizer, "ab"), [*ids(tokenizer, " c ."), 0]) == " c ."
    assert response_text(tokenizer, ids(tokenizer, "ab"), [0]) == ""


def test_a_prompt_that_ends_inside_a_character(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = ids(tokenizer, "é!")
    assert response_text(tokenizer, whole[:1], whole[1:]).endswith("!")


def test_first_stop_is_the_earliest_in_the_text() -> None:
    assert first_stop("a stop b end", ["end", "stop"]) == 2
    assert first_stop("a", ["end", "stop"]) is None


def test_cut_ends_with_the_token_that_completes_the_stop_string(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt, response = ids(tokenizer, "hi"), ids(tokenizer, "né\n\nHuman: xé\n\nHuman:")
    cut = cut_at_stop(tokenizer, prompt, response, ["\n\nHuman:", "x"])
    assert cut == (len("né\n\nHuman:".encode()), "né")
    assert cut_at_stop(tokenizer, prompt, response, ["absent"]) is None
    assert cut_at_stop(tokenizer, prompt, ids(tokenizer, "éé"), ["é"]) == (2, "")


def test_a_stop_string_is_found_wherever_it_ended_since_the_last_check(tokenizer: PreTrainedTokenizerFast) -> None:
    for after in range(8):
        response = ids(tokenizer, "a long beginnéng, then éstopé" + "x" * after)
        assert may_hold_stop(tokenizer, response, ["éstopé", "no"], new_tokens=8)
    assert not may_hold_stop(tokenizer, ids(tokenizer, "éstop"), ["éstopé"], new_tokens=8)
