"""A tiny recipe with all training stages, its data and its tokenizer, for tests of whole runs."""

import json
import random
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{number}" for number in range(24)] + ["good", "bad"]
FRESH = {
    "architecture": "llama",
    "options": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    },
}


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer that knows one token per word."""
    special = ["<bos>", "<eos>", "<pad>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


def write_data(folder: Path, rows: int = 40) -> None:
    """Write demonstrations and rankings in which responses with "good" are better."""
    generator = random.Random(0)

    def words(longest: int) -> str:
        return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, longest)))

    demonstrations, rankings, texts = [], [], []
    for number in range(rows):
        prompt = f"w{number % 24} " + words(6)
        demonstrations.append({"prompt": prompt, "response": words(8)})
        texts.append({"text": words(12)})
        responses = [words(6) for _ in range(generator.randint(2, 4))]
        ranks = list(range(len(responses)))
        generator.shuffle(ranks)
        rankings.append({"prompt": prompt, "responses": responses, "ranks": ranks})
    for name, records in (("demonstrations", demonstrations), ("rankings", rankings), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def tiny_recipe(folder: Path, **changes: Any) -> Path:
    """Write tokenizer, data and ``recipe.yaml`` with pretrain, sft, reward and rl into ``folder``; return the recipe.

    ``changes`` are dotted keys with "__" for the dots: ``rl__weights="shared"``; None leaves a key out.
    """
    write_tokenizer(folder / "tokenizer")
    write_data(folder)
    training = {"batch_size": 8, "checkpoint_every": 1, "evaluate_every": 4, "optimizer": {"learning_rate": 0.003}}
    fresh = {"fresh": FRESH, "tokenizer": str(folder / "tokenizer")}
    source = {name: {"sources": [str(folder / f"{name}.jsonl")]} for name in ("demonstrations", "rankings", "texts")}
    sft = {"samples": 1, "sample_tokens": 4, **training}
    recipe: dict[str, Any] = {
        "name": "tiny",
        "output": str(folder / "runs"),
        "device": "cpu",
        "threads": 1,
        "pretrain": {"model": fresh, "data": source["texts"], "epochs": 1, **sft},
        "sft": {"model": "stage:pretrain", "data": source["demonstrations"], "epochs": 1, **sft},
        "reward": {"model": "stage:sft", "data": source["rankings"], "epochs": 1, **training},
        "dpo": {"model": "stage:sft", "data": source["rankings"], "epochs": 1, **sft},
        "rl": {
            "model": "stage:sft",
            "prompts": source["demonstrations"],
            "rewards": [{"name": "preference", "kind": "model", "path": "stage:reward"}],
            "value_model": "stage:reward",
            "iterations": 2,
            "prompts_per_iteration": 6,
            "epochs": 2,
            "minibatches": 2,
            "generation": {"max_new_tokens": 6},
            "kl": {"coefficient": 0.1, "target": 2.0, "horizon": 100},
            "scale_rewards": True,
            "held_out_prompts": 2,
            "checkpoint_every": 1,
            "evaluate_every": 1,
            "optimizer": {"learning_rate": 0.003},
        },
    }
    for key, value in changes.items():
        section = recipe
        *parents, last = key.split("__")
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path
