"""Unknown tokens and single bytes are counted."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plaudit.batching.trees import PromptTree
from plaudit.data.unwritten import unwritten
from tiny_tokenizers import byte_level


def test_unknown_tokens_and_single_bytes_are_counted() -> None:
    words = {"<unk>": 0, "</s>": 1, "sky": 2, "<0xE7>": 3, "<0x0A>": 4}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    trees = [PromptTree((2, 0), ((0, 1), (3, 4, 1))), PromptTree((2, 2), ((2, 1),))]
    found = unwritten(trees, tokenizer)
    assert (found.tokens, found.unknown, found.single_bytes) == (11, 2, 1)
    assert found.unknown_fraction == 2 / 11
    assert found.byte_fraction == 1 / 11


def test_an_unknown_token_that_is_also_the_end_is_not_counted() -> None:
    tokenizer = byte_level(unk_token="<end>")
    end = tokenizer.eos_token_id
    assert unwritten([PromptTree((5,), ((6, end),))], tokenizer).unknown == 0
