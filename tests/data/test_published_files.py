"""Files in the form of published datasets, with typical faults, counted a second time in another way."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loaded_rows import load_rows
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.measures import texts_of
from plaudit.data.rows import RankingRow
from plaudit.data.sources import read_source
from plaudit.data.tokenization import tokenize_rows
from tiny_tokenizers import byte_level, space_in_front

FIXTURES = Path(__file__).parents[1] / "fixtures"
HH = FIXTURES / "hh_rlhf.jsonl"
OASST = FIXTURES / "oasst_trees.jsonl"


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_hh_rlhf() -> None:
    read = read_source(SourceConfig(path=str(HH)), RankingRow)
    assert (read.row_format.name, read.counts.records) == ("hh_rlhf", 10)
    expected: Counter[str] = Counter()
    good = 0
    for record in _lines(HH):
        (prompt, _, chosen), (other, _, rejected) = (record[s].rpartition("\n\nAssistant:") for s in record)
        if record["chosen"] == record["rejected"]:
            expected["identical responses"] += 1
        elif not chosen.strip() or not rejected.strip():
            expected["empty response"] += 1
        elif re.sub(r"\s+", " ", prompt).strip() != re.sub(r"\s+", " ", other).strip():
            expected["mismatched prompts"] += 1
        else:
            good += 1
    assert read.counts.bad == expected == {"identical responses": 1, "empty response": 1, "mismatched prompts": 2}
    assert len(read.rows) == good == 6


def test_hh_rlhf_text_is_restored_exactly() -> None:
    records = _lines(HH)
    rows = read_source(SourceConfig(path=str(HH)), RankingRow).rows
    assert len(rows) == 6
    for row in rows:
        (_, prompt), (_, chosen), (_, rejected) = texts_of(row)
        record = records[row.origin.line - 1]
        for side, response in (("chosen", chosen), ("rejected", rejected)):
            assert "".join((prompt + response).split()) == "".join(record[side].split())


def test_open_assistant() -> None:
    read = read_source(SourceConfig(path=str(OASST)), RankingRow)
    assert (read.row_format.name, read.counts.records, read.counts.bad) == ("open_assistant", 4, {})
    sizes: Counter[int] = Counter()
    unranked = few = deleted = 0

    def count(node: dict[str, Any]) -> None:
        nonlocal unranked, few, deleted
        kept = [reply for reply in node["replies"] if not reply.get("deleted")]
        deleted += len(node["replies"]) - len(kept)
        if node["role"] == "prompter":
            ranked = sum(reply.get("rank") is not None for reply in kept)
            unranked += len(kept) - ranked
            few += ranked < 2
            sizes.update([ranked] if ranked >= 2 else [])
        for reply in kept:
            count(reply)

    for tree in _lines(OASST):
        count(tree["prompt"])
    assert Counter(len(row.responses) for row in read.rows) == sizes == {3: 2, 2: 2}
    assert read.counts.unused == {
        "reply without text or rank": unranked,
        "prompt with fewer than two ranked replies": few,
        "deleted message, with all below it": deleted,
    }
    assert (unranked, few, deleted) == (4, 3, 1)
    for row in read.rows:
        assert isinstance(row.prompt, tuple)
        assert [message.role for message in row.prompt] == ["user", "assistant"] * (len(row.prompt) // 2) + ["user"]


@pytest.mark.parametrize("tokenizer, readable", [(byte_level(), 12), (space_in_front(), 2)], ids=["bytes", "spaces"])
def test_tokens_read_back_as_prompt_and_response(tokenizer: Any, readable: int) -> None:
    config = DataConfig(sources=[SourceConfig(path=str(HH))], held_out_fraction=0, max_bad_fraction=0.5)
    rows = load_rows(config, RankingRow, None, 0).train
    done = tokenize_rows(rows, tokenizer, config, 100_000)
    unknown, checked = tokenizer.unk_token_id, 0
    for row in done.rows:
        tree = row.tree
        for text, ids in zip(row.row.responses, tree.responses, strict=True):
            assert ids[-1] == tokenizer.eos_token_id
            if unknown not in tree.prompt + ids:
                joint = row.prompt_text + " " + text
                assert tokenizer.decode(tree.prompt + ids, skip_special_tokens=True) == joint
                checked += 1
    assert checked >= readable  # the second tokenizer does not know every character
