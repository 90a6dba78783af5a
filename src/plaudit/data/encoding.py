"""Tokenizes rendered texts in batches. A response is the continuation of its prompt's tokens."""

from collections.abc import Sequence
from typing import Any

from plaudit.data.special_tokens import Ids, SpecialTokens, Text
from plaudit.data.templates import Rendered


def encode(texts: Sequence[tuple[Text, bool]], special: SpecialTokens, tokenizer: Any) -> list[Ids]:
    """Tokenize texts; those without their own special tokens (the flag) get what the tokenizer adds, except EOS."""
    plain = iter(_batch([t.text for t, own in texts if not own and not t.literal], tokenizer, special_tokens=True))
    chat = iter(_batch([t.text for t, own in texts if own and not t.literal], tokenizer, special_tokens=False))
    return [
        special.encode(text, special_tokens=not own) if text.literal else next(chat) if own else next(plain)
        for text, own in texts
    ]


def encode_parts(
    all_rendered: Sequence[Rendered], prompts: Sequence[Ids], special: SpecialTokens, tokenizer: Any
) -> list[Ids]:
    """Tokenize the parts of all responses, one after the other, so that each continues what is before it.

    Both are tokenized together and split after the tokens of what is before. If a token spans the boundary, the part is
    tokenized after a line break instead, because some tokenizers add a space at the start of a text.
    """
    befores: list[Ids | None] = []  # None: the tokens of the preceding joint text
    parts, joint = [], []
    for rendered, prompt in zip(all_rendered, prompts, strict=True):
        for response in rendered.responses:
            text = rendered.prompt
            for number, part in enumerate(response):
                befores.append(None if number else prompt)
                text = text + part.text
                parts.append(part.text)
                joint.append((text, rendered.special_tokens))
    encoded = encode(joint, special, tokenizer)
    found: list[Ids | None] = []
    for number, ids in enumerate(encoded):
        given = befores[number]
        before = encoded[number - 1] if given is None else given
        found.append(ids[len(before) :] if ids[: len(before)] == before else None)
    spanning = [part for ids, part in zip(found, parts, strict=True) if ids is None]
    alone = iter(_after_line_break(spanning, special, tokenizer))
    return [next(alone) if ids is None else ids for ids in found]


def _after_line_break(texts: Sequence[Text], special: SpecialTokens, tokenizer: Any) -> list[Ids]:
    (line_break,) = _batch(["\n"], tokenizer, special_tokens=False)
    length = len(line_break)
    after = encode([(Text("\n") + text, True) for text in texts], special, tokenizer)
    found = [ids[length:] if ids[:length] == line_break else None for ids in after]
    joined = [text for ids, text in zip(found, texts, strict=True) if ids is None]
    alone = iter(encode([(text, True) for text in joined], special, tokenizer))
    return [next(alone) if ids is None else ids for ids in found]


def _batch(texts: Sequence[str], tokenizer: Any, special_tokens: bool) -> list[Ids]:
    """Tokenize texts in one batch, without the EOS token that some tokenizers add at the end."""
    if not texts:
        return []
    # verbose=False: tokenizers may warn about texts beyond the model's length, but the caller applies the limits.
    # Masks are not needed and take time.
    all_ids: list[Ids] = tokenizer(
        list(texts),
        add_special_tokens=special_tokens,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return [ids[:-1] for ids in all_ids] if special_tokens and _adds_eos(tokenizer) else all_ids


def _adds_eos(tokenizer: Any) -> bool:
    with_special: Ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    without: Ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(with_special[-1] == tokenizer.eos_token_id) and with_special[-len(without) :] != without
