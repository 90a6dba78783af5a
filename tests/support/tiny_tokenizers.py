"""Small tokenizers: byte-level BPE like GPT-2's, and one that adds a space at the start like Llama's."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_TEXT = [
    "Once upon a time there was a little girl who liked to play outside.",
    "Human: Is the museum open? Assistant: Yes, it is open until six. What would you like to know?",
    "The sky is blue and the grass is green. One, two, three, four, five! I like cats and dogs.",
] * 3
_END = "<end>"

CHAT_TEMPLATE = (
    "{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def byte_level(chat_template: str | None = None, **special: str) -> Any:
    """Return a byte-level tokenizer, which adds no special token by itself; its EOS token is ``<end>``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=[_END, "<turn>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_END, chat_template=chat_template, **special
    )


def space_in_front(add_eos: bool = False) -> Any:
    """Return a tokenizer that adds a space at the start of every text and ``<s>``, and optionally ``<end>``."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.train_from_iterator(
        [*_TEXT, "\n"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", _END], show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken(_END, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {_END}" if add_eos else "<s> $A",
        special_tokens=[("<s>", 1), (_END, 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=_END, pad_token="<unk>", unk_token="<unk>"
    )


def letters_only() -> Any:
    """Return a tokenizer of small letters and spaces, which drops all other characters without a word."""
    characters = [_END, *"abcdefghijklmnopqrstuvwxyz "]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(characters)}, []))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END)
