"""A padding token for tokenizers without one. Its choice changes no result: sequences are tracked by their lengths."""

import logging
from typing import Any

logger = logging.getLogger("plaudit.models")


def with_padding_token(tokenizer: Any, name: str) -> None:
    """Give a tokenizer without a padding token an unused special token for padding, else its EOS token, and log it."""
    if tokenizer.pad_token is not None:
        return
    used = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    unused = [token for token in special if "pad" in token.lower() and token not in used]
    tokenizer.pad_token = unused[0] if unused else tokenizer.eos_token
    logger.info("%s: the tokenizer has no padding token; batches are padded with %s", name, tokenizer.pad_token)
