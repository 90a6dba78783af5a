# ruff: noqa: RUF001  # some special tokens contain wide bars
"""Chat templates of ten families in our own words, after their public descriptions, with tiny tokenizers for them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """A chat template with its tokens: ``special`` ones (the first is EOS), and ``added`` ones that are ordinary.

    ``shown`` is the dialogue of ``SHORT`` as the family's description says; ``end`` is how an answer ends.
    """

    template: str
    special: tuple[str, ...]
    end: str
    shown: str
    bos: str | None = None
    added: tuple[str, ...] = ()
    system: bool = True


SHORT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you."},
]

_CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# The system message is inside the first user turn; every answer is closed, and the next question opens a new text.
_LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set before = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}"
    "{% if turn['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (before if loop.first else '') + turn['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

_LLAMA_3 = (
    "{{ bos_token }}{% for turn in messages %}"
    "{{ '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\n\n' + turn['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for turn in messages %}{% set name = 'model' if turn['role'] == 'assistant' else turn['role'] %}"
    "{{ '<start_of_turn>' + name + '\n' + turn['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

# The system message stands in the last question, so earlier answers are written differently in a longer dialogue.
_MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% set last = (turns | selectattr('role', 'equalto', 'user') | list)[-1] %}{{ bos_token }}"
    "{% for turn in turns %}{% if turn['role'] == 'user' %}"
    "{% if system and turn == last %}{{ '[INST] ' + system + '\n\n' + turn['content'] + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + turn['content'] + '[/INST]' }}{% endif %}"
    "{% elif turn['role'] == 'assistant' %}{{ ' ' + turn['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('unknown role') }}{% endif %}{% endfor %}"
)

# Without a question to answer, the whole text is closed as well.
_PHI_3 = (
    "{% for turn in messages %}{{ '<|' + turn['role'] + '|>\n' + turn['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

_QWEN = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set system = 'You are a helpful assistant.' %}{% endif %}"
    "{{ '<|im_start|>system\n' + system }}"
    "{% if tools %}{{ '\n\n# Tools\n\nThese functions may be called:\n<tools>' }}"
    "{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools>' }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% for turn in messages %}"
    "{% if turn.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + turn.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% elif turn.role == 'assistant' and turn.tool_calls %}{{ '<|im_start|>assistant' }}"
    "{% if turn.content %}{{ '\n' + turn.content }}{% endif %}"
    "{% for call in turn.tool_calls %}"
    '{{ \'\n<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ (call.function.arguments | tojson) + '}\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif not (turn.role == 'system' and loop.first) %}"
    "{{ '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Thoughts are left out of earlier answers, and an answer that is wanted begins with a thought.
_DEEPSEEK = (
    "{{ bos_token }}{% for turn in messages %}{% if turn['role'] == 'system' %}{{ turn['content'] }}"
    "{% elif turn['role'] == 'user' %}{{ '<｜User｜>' + turn['content'] }}"
    "{% else %}{{ '<｜Assistant｜>' + turn['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)

_ZEPHYR = (
    "{% for turn in messages %}{{ '<|' + turn['role'] + '|>\n' + turn['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

_HUMAN_ASSISTANT = (
    "{% for turn in messages %}"
    "{% if turn['role'] == 'user' %}{{ '\n\nHuman: ' + turn['content'] + '\n\nAssistant:' }}"
    "{% elif turn['role'] == 'assistant' %}{{ ' ' + turn['content'] + eos_token }}"
    "{% else %}{{ turn['content'] }}{% endif %}{% endfor %}"
)

FAMILIES = {
    "chatml": Family(
        _CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSee you.<|im_end|>\n",
    ),
    "llama 2": Family(
        _LLAMA_2,
        ("</s>", "<s>", "<unk>"),
        " </s>",
        "<s>[INST] Hi [/INST] Hello. </s><s>[INST] Bye [/INST] See you. </s>",
        bos="<s>",
    ),
    "llama 3": Family(
        _LLAMA_3,
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nSee you.<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "gemma": Family(
        _GEMMA,
        ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>\n",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nSee you.<end_of_turn>\n",
        bos="<bos>",
        system=False,
    ),
    "mistral": Family(
        _MISTRAL,
        ("</s>", "<s>", "[INST]", "[/INST]"),
        "</s>",
        "<s>[INST] Hi[/INST] Hello.</s>[INST] Bye[/INST] See you.</s>",
        bos="<s>",
    ),
    "phi 3": Family(
        _PHI_3,
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        "<|end|>\n<|endoftext|>",
        "<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\nSee you.<|end|>\n"
        "<|endoftext|>",
    ),
    "qwen": Family(
        _QWEN,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>\n",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSee you.<|im_end|>\n",
        added=("<tool_call>", "</tool_call>"),
    ),
    "deepseek": Family(
        _DEEPSEEK,
        ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
        "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hello.<｜end▁of▁sentence｜>"
        "<｜User｜>Bye<｜Assistant｜>See you.<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        added=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
    "zephyr": Family(
        _ZEPHYR,
        ("</s>", "<s>", "<unk>"),
        "</s>\n",
        "<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\nSee you.</s>\n",
        bos="<s>",
    ),
    "human and assistant": Family(
        _HUMAN_ASSISTANT,
        ("<|endoftext|>",),
        "<|endoftext|>",
        "\n\nHuman: Hi\n\nAssistant: Hello.<|endoftext|>\n\nHuman: Bye\n\nAssistant: See you.<|endoftext|>",
    ),
}


@cache
def tokenizer_of(name: str) -> Any:
    """Return a byte-level tokenizer with the tokens and the chat template of a family."""
    family = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [family.shown, "Human: Is it open? Assistant: Yes, until six.\n\nuser assistant system model"] * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(family.special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=family.special[0],
        pad_token=family.special[0],
        bos_token=family.bos,
        chat_template=family.template,
        extra_special_tokens=list(family.special[1:]),
    )
