"""The real files, read whole and counted a second time by other means."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.inspect import texts_of
from plaudit.data.loading import load_rows
from plaudit.data.rows import PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.sources import SourceRows, read_source
from plaudit.data.tokenization import to_trees

SHARED = Path(__file__).parents[2].parent / "shared"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the real files are not here")

HH = SHARED / "data/hh-rlhf/helpful-base/test.jsonl.gz"
OASST = SHARED / "data/oasst/en_100_tree.jsonl.gz"


def _lines(path: Path) -> list[Any]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().split("\n") if line]


def test_hh_rlhf() -> None:
    read = read_source(SourceConfig(path=str(HH)), RankingRow)
    assert (read.row_format.name, read.counts.records) == ("hh_rlhf", 2354)
    expected: Counter[str] = Counter()
    good = 0
    for record in _lines(HH):
        (prompt, _, chosen), (other, _, rejected) = (record[s].rpartition("\n\nAssistant:") for s in record)
        if record["chosen"] == record["rejected"]:
            expected["identical sides"] += 1
        elif not chosen.strip() or not rejected.strip():
            expected["empty response"] += 1
        elif re.sub(r"\s+", " ", prompt) != re.sub(r"\s+", " ", other):
            expected["mismatched prompts"] += 1
        else:
            good += 1
    assert read.counts.bad == expected
    assert len(read.rows) == good == 2354 - expected.total()


def test_hh_rlhf_text_comes_out_as_it_went_in() -> None:
    records = _lines(HH)
    for row in read_source(SourceConfig(path=str(HH)), RankingRow).rows:
        (_, prompt), (_, chosen), (_, rejected) = texts_of(row)
        record = records[row.origin.line - 1]
        for side, response in (("chosen", chosen), ("rejected", rejected)):
            assert "".join((prompt + response).split()) == "".join(record[side].split())


def test_open_assistant() -> None:
    read = read_source(SourceConfig(path=str(OASST)), RankingRow)
    assert (read.row_format.name, read.counts.records, read.counts.bad) == ("open_assistant", 100, {})
    sizes: Counter[int] = Counter()
    unranked = few = 0

    def count(node: dict[str, Any]) -> None:
        nonlocal unranked, few
        if node["role"] == "prompter":
            ranked = sum("rank" in reply and reply["rank"] is not None for reply in node["replies"])
            unranked += len(node["replies"]) - ranked
            few += ranked < 2
            sizes.update([ranked] if ranked >= 2 else [])
        for reply in node["replies"]:
            count(reply)

    for tree in _lines(OASST):
        count(tree["prompt"])
    assert Counter(len(row.responses) for row in read.rows if isinstance(row, RankingRow)) == sizes
    assert len(read.rows) == sizes.total() == 212
    assert read.counts.unused == {
        "reply without text or rank": unranked,
        "prompt with fewer than two ranked replies": few,
    }
    for row in read.rows:
        assert isinstance(row, RankingRow)
        assert isinstance(row.prompt, tuple)
        assert [message.role for message in row.prompt] == ["user", "assistant"] * (len(row.prompt) // 2) + ["user"]


@pytest.mark.parametrize(
    "path, name, row_type, number",
    [
        ("self-instruct/seed_tasks.jsonl", "self_instruct", ResponseRow, 175),
        ("real-toxicity-prompts/val_400.jsonl", "real_toxicity_prompts", PromptRow, 400),
        ("tinystories/prompts.jsonl", "prompt", PromptRow, 1171),
    ],
)
def test_the_other_files_give_a_row_a_line(path: str, name: str, row_type: type, number: int) -> None:
    read: SourceRows[Row] = read_source(SourceConfig(path=str(SHARED / "data" / path)))
    assert read.row_format.name == name
    assert [type(row) for row in read.rows] == [row_type] * number
    assert not read.rejects


@pytest.mark.parametrize("model", ["stories260K", "TinyStories-656K-fixedtok"])
def test_real_tokenizers_read_back_prompt_and_response(model: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "models" / model)
    config = DataConfig(sources=[SourceConfig(path=str(HH), limit=150)], held_out_fraction=0, max_bad_fraction=0.05)
    rows = load_rows(config, RankingRow, None, 0).train
    trees = to_trees(rows, tokenizer, config, 100_000).trees
    unknown = tokenizer.unk_token_id
    checked = 0
    for row, tree in zip(rows, trees, strict=True):
        assert isinstance(row, RankingRow)
        for text, ids in zip(row.responses, tree.responses, strict=True):
            assert ids[-1] == tokenizer.eos_token_id
            if unknown not in tree.prompt + ids:
                joint = tree.fields["prompt_text"] + " " + text
                assert tokenizer.decode(tree.prompt + ids, skip_special_tokens=True) == joint
                checked += 1
    assert checked > 50
