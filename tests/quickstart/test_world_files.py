"""The world's folder: its files and rows, which are reproducible, and its tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from plaudit.config.schema import DataConfig, WorldConfig
from plaudit.data.rows import Origin, ResponseRow
from plaudit.data.tokenization import tokenize_rows
from plaudit.quickstart.gold import gold_score
from plaudit.quickstart.requests import read_prompt
from plaudit.quickstart.world import make_world

CONFIG = WorldConfig(pretraining_texts=200, demonstrations=300, comparisons=200, prompts=100, test_prompts=50)
FILES = ("pretrain.jsonl", "demonstrations.jsonl", "comparisons.jsonl", "prompts.jsonl", "test_prompts.jsonl")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, make_world(CONFIG, 0, folder)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_hold_the_requested_rows(world: tuple[Path, dict[str, float]]) -> None:
    folder, summary = world
    counts = [len(rows(folder, name)) for name in FILES]
    assert counts == [200, 300, 200, 100, 50]
    assert [
        summary[f"count/{use}"] for use in ("pretraining", "demonstrations", "comparisons", "prompts", "test")
    ] == counts
    columns = [{"prompt", "response"}] * 2 + [{"prompt", "responses", "ranks", "annotator"}] + [{"prompt"}] * 2
    for name, expected in zip(FILES, columns, strict=True):
        assert all(set(row) == expected for row in rows(folder, name))
    for row in rows(folder, "comparisons.jsonl"):
        assert sorted(row["ranks"]) == list(range(len(row["responses"])))
        assert len(row["ranks"]) in (2, 4)


def test_no_request_occurs_in_two_files(world: tuple[Path, dict[str, float]]) -> None:
    folder, _ = world
    prompts = [row["prompt"] for name in FILES for row in rows(folder, name)]
    assert len(set(prompts)) == len(prompts) == 850
    wanted = [{tuple(read_prompt(row["prompt"]).values.items()) for row in rows(folder, name)} for name in FILES]
    assert sum(map(len, wanted)) == len(set().union(*wanted))


def test_the_summary_is_true(world: tuple[Path, dict[str, float]]) -> None:
    folder, summary = world
    scores = [gold_score(row["prompt"], row["response"]) for row in rows(folder, "demonstrations.jsonl")]
    assert summary["gold/demonstrations"] == pytest.approx(sum(scores) / len(scores))
    assert 0.45 <= summary["gold/demonstrations"] <= 0.6
    agrees = []
    for row in rows(folder, "comparisons.jsonl"):
        gold = [gold_score(row["prompt"], response) for response in row["responses"]]
        for better, worse in ((i, j) for i in range(len(gold)) for j in range(len(gold)) if gold[i] > gold[j]):
            agrees.append(row["ranks"][better] < row["ranks"][worse])
    assert summary["agreement"] == pytest.approx(sum(agrees) / len(agrees))


def test_the_seed_determines_every_byte(world: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder, summary = world
    assert make_world(CONFIG, 0, tmp_path / "same") == summary
    assert contents(tmp_path / "same") == contents(folder)
    make_world(CONFIG, 1, tmp_path / "other")
    assert all(contents(tmp_path / "other")[name] != contents(folder)[name] for name in FILES)


def test_more_rows_keep_the_first_ones(world: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder, _ = world
    make_world(CONFIG.model_copy(update={"demonstrations": 310, "comparisons": 210}), 0, tmp_path)
    assert rows(tmp_path, "demonstrations.jsonl")[:300] == rows(folder, "demonstrations.jsonl")
    assert rows(tmp_path, "comparisons.jsonl")[:200] == rows(folder, "comparisons.jsonl")


def test_the_folder_says_that_all_is_simulated(world: tuple[Path, dict[str, float]]) -> None:
    text = (world[0] / "README.txt").read_text(encoding="utf-8")
    assert "texts are simulated" in text
    assert "annotators are simulated" in text
    assert all(name in text for name in FILES)


def test_the_tokenizer_gives_every_text_back(world: tuple[Path, dict[str, float]]) -> None:
    folder, _ = world
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id]
    assert sorted(special) == [0, 1, 2, 3]
    texts = [row["prompt"] + " " + row["response"] for row in rows(folder, "pretrain.jsonl")]
    texts += [text for row in rows(folder, "comparisons.jsonl") for text in (row["prompt"], *row["responses"])]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert not set(ids) & set(special)
    for response in (row["response"] for row in rows(folder, "demonstrations.jsonl")):
        ids = [*tokenizer(response).input_ids, tokenizer.eos_token_id]
        assert tokenizer.decode(ids, skip_special_tokens=True) == response


def test_requests_and_replies_have_the_lengths_of_short_dialogues(world: tuple[Path, dict[str, float]]) -> None:
    folder, _ = world
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    demonstrations = rows(folder, "demonstrations.jsonl")
    prompts = [len(tokenizer(row["prompt"]).input_ids) for row in demonstrations]
    replies = [len(tokenizer(row["response"]).input_ids) for row in demonstrations]
    assert min(prompts) >= 12
    assert max(prompts) <= 32
    assert min(replies) >= 5
    assert max(replies) <= 64


def test_rows_become_trees_without_unknown_words(world: tuple[Path, dict[str, float]]) -> None:
    folder, _ = world
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    written = rows(folder, "pretrain.jsonl")
    pairs = [
        ResponseRow(row["prompt"], row["response"], Origin("pretrain.jsonl", n + 1)) for n, row in enumerate(written)
    ]
    trees = tokenize_rows(pairs, tokenizer, DataConfig.model_validate({"sources": ["pretrain.jsonl"]}), 128).trees
    for tree, row in zip(trees, written, strict=True):
        assert tokenizer.decode(tree.prompt) == row["prompt"]
        assert tokenizer.decode(tree.responses[0]) == row["response"] + " <eos>"
        assert tree.responses[0][-1] == tokenizer.eos_token_id


def test_a_conversation_takes_the_form_of_the_prompts(world: tuple[Path, dict[str, float]]) -> None:
    folder, _ = world
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    messages = [{"role": "user", "content": "Could you help?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "Guest: Could you help? Concierge:"
    longer = [*messages, {"role": "assistant", "content": "Welcome."}, *messages]
    text = tokenizer.apply_chat_template(longer, tokenize=False, add_generation_prompt=True)
    assert text == "Guest: Could you help? Concierge: Welcome. Guest: Could you help? Concierge:"
