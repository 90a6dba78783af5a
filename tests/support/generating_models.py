"""Tiny random models, a tokenizer with a token per word, and engines and requests for them."""

from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from plaudit.models.acceleration.install import install
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request, Sample
from plaudit.seeding import torch_generator

WORDS = 40
END = 3
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2},
    "qwen2": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2},
    "mistral": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "sliding_window": 6},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    "opt": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"word_embed_proj_dim": 32},
    "gemma2": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 2.0},
    "cohere": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "logit_scale": 0.3},
    "granite": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "logits_scaling": 3.0},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def tiny_model(architecture: str, **options: Any) -> Any:
    special = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    names = {"max_position_embeddings": 64} if architecture != "bloom" else {}
    config = AutoConfig.for_model(
        architecture, vocab_size=WORDS, **(names | special | ARCHITECTURES[architecture] | options)
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" not in name and "ln_" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return model


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<s>": 1, "<unk>": 2, "</s>": END} | {f"▁w{i}": i for i in range(4, WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "unk_token": "<unk>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def engine_of(model: Any) -> TransformersEngine:
    loaded = SimpleNamespace(
        model=model,
        tokenizer=word_tokenizer(),
        device=torch.device("cpu"),
        acceleration=install(model, generates=True),
    )
    return TransformersEngine(loaded)


def requests_of(lengths: list[int], seed: int = 0) -> list[Request]:
    generator = torch_generator(seed)
    prompts = [tuple(torch.randint(4, WORDS, (length,), generator=generator).tolist()) for length in lengths]
    return [Request(prompt, f"prompt {i}", seed=100 + i, fields={"row": i}) for i, prompt in enumerate(prompts)]


def plain_log_probabilities(model: Any, sample: Sample, temperature: float) -> torch.Tensor:
    """Log-probabilities by one forward pass over the whole sequence, without padding or cache."""
    ids = torch.tensor([sample.prompt_ids + sample.response_ids])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits[0, len(sample.prompt_ids) - 1 : -1]
    everything = torch.log_softmax(logits / temperature, -1)
    return everything.gather(1, torch.tensor(sample.response_ids)[:, None])[:, 0]
