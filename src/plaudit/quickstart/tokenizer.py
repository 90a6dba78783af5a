"""The world's tokenizer: one token per word or punctuation mark."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.quickstart.lexicon import CONCIERGE, GUEST, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{{{{ '{GUEST} ' if message.role == 'user' else '{CONCIERGE} ' }}}}"
    "{{ message.content }}{{ ' ' if not loop.last }}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ ' {CONCIERGE}' }}}}{{% endif %}}"
)


def make_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a tokenizer that knows every word of the world; on the world's text decode(encode(text)) == text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL_TOKENS.values(), *vocabulary()]
    model = models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=SPECIAL_TOKENS["unk_token"])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[.,!?]"), "isolated")]
    )
    # This decoder joins words with spaces and attaches punctuation to the preceding word.
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL_TOKENS)
    fast.chat_template = _CHAT_TEMPLATE
    return fast


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer into ``folder``, in the format of transformers."""
    make_tokenizer().save_pretrained(folder)
    # transformers 5 writes a new class name, which transformers 4 cannot load.
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
