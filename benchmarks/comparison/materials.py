"""The inputs of both sides: a tokenizer trained on the pairs, models with random weights, and the pairs."""

import gzip
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from comparison.environment import FOLDER
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.loading import load_rows
from plaudit.data.rows import PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.store.cache import DataCache
from plaudit.data.tokenization import tokenize_rows
from plaudit.training.examples import Order

VOCABULARY = 8192
SEED = 0
LONGEST = 512  # tokens of a prompt with its longer response
PROMPT_LENGTHS = {"grpo": (1, 128), "ppo": (1, 128), "sampling": (105, 128)}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": (
        "llama",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        | {"vocab_size": VOCABULARY, "max_position_embeddings": 1024},
    ),
    "30m": (
        "llama",
        {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1408}
        | {"vocab_size": VOCABULARY, "max_position_embeddings": 1024},
    ),
    "gpt2": ("gpt2", {"vocab_size": 50257, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
}
KINDS: dict[str, type[Row]] = {"sft": ResponseRow, "grpo": PromptRow, "ppo": PromptRow, "sampling": PromptRow}


def make_models(pairs: Path, model: str) -> Path:
    """Return the folder with ``policy`` and ``scorer``, each with its tokenizer; the first call creates it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed

    folder = FOLDER / "models" / f"{model}-{sha256(pairs.read_bytes()).hexdigest()[:8]}"
    if (folder / "scorer" / "config.json").exists():
        return folder
    tokenizer = _train_tokenizer(pairs)
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    architecture, shape = SHAPES[model]
    for name, kind, extra in (
        ("policy", AutoModelForCausalLM, {}),
        ("scorer", AutoModelForSequenceClassification, {"num_labels": 1}),
    ):
        set_seed(SEED)
        kind.from_config(AutoConfig.for_model(architecture, **shape, **special, **extra)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def _train_tokenizer(pairs: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for row in _read(pairs) for text in row.values()), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def _read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make_data(
    task: str, pairs: Path, models: Path, count: int, folder: Path, prompt_tokens: tuple[int, int] | None = None
) -> list[PromptTree]:
    """Write the first ``count`` pairs whose lengths suit ``task`` to ``folder/pairs.jsonl``; return their trees."""
    from transformers import AutoTokenizer

    tokenizer, path, rows = AutoTokenizer.from_pretrained(models / "policy"), folder / "pairs.jsonl", _read(pairs)
    config = data_config(path)
    least, most = prompt_tokens or PROMPT_LENGTHS.get(task, (1, LONGEST))
    _write(path, rows)
    kept, prompts = [], set()
    for row in tokenize_rows(
        load_rows(config, RankingRow, None, SEED, DataCache(folder)).train, tokenizer, config, 2**20
    ).rows:
        tree = row.tree
        longest = len(tree.prompt) + max(map(len, tree.responses))
        if longest <= LONGEST and least <= len(tree.prompt) <= most and tree.prompt not in prompts:
            prompts.add(tree.prompt)
            kept.append(rows[row.row.origin.line - 1])
    if len(kept) < count:
        raise SystemExit(
            f"{pairs} has {len(kept)} pairs with prompts of {least} to {most} tokens, but {count} are needed; use "
            "fewer or another --data"
        )
    _write(path, kept[:count])
    wanted = load_rows(config, KINDS.get(task, RankingRow), None, SEED, DataCache(folder)).train
    return tokenize_rows(wanted, tokenizer, config, 2**20).trees


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def data_config(path: Path) -> DataConfig:
    """Return the data section for Plaudit's stages."""
    options = {"held_out_fraction": 0.0, "conversation": "human_assistant", "overlong": "error"}
    return DataConfig.model_validate({"sources": [str(path)], **options})


def in_order_of_training(trees: Sequence[PromptTree], batch_size: int, stage: str) -> list[PromptTree]:
    """Return the trees in the order of Plaudit's first epoch."""
    order = Order(len(trees), batch_size, (SEED, stage))
    return [trees[index] for step in range(order.steps_per_epoch) for index in order.batch(step + 1)]


def write_ids(trees: Sequence[PromptTree], path: Path) -> None:
    """Write the token ids for the peer, so that it trains on the same tokens."""
    rows = [{"prompt": list(tree.prompt), "responses": [list(r) for r in tree.responses]} for tree in trees]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
