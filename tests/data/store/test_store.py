"""Rows and trees on disk are those in memory; a build survives kills; damage is found; the cache is never stale."""

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row, TextRow, ToolCall
from plaudit.data.sources import read_source
from plaudit.data.splits import held_out_draws
from plaudit.data.store import rows as row_store
from plaudit.data.store.cache import DataCache
from plaudit.data.store.codec import decoded, encoded
from plaudit.data.store.trees import JoinedTrees, StoredTrees
from plaudit.data.tokenization import tokenize_rows, tokenized_completely, within_limits
from plaudit.errors import PlauditError
from tiny_tokenizers import CHAT_TEMPLATE, byte_level, space_in_front

AT = Origin("f", 3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["user", "assistant"]),
    TEXT,
    tool_calls=st.just((ToolCall("f", "{}"),)),
    learned=st.booleans(),
)
PROMPTS = TEXT | st.lists(MESSAGES, min_size=1, max_size=3).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
ROWS: st.SearchStrategy[Any] = st.one_of(
    st.builds(TextRow, TEXT, st.just(AT)),
    st.builds(ResponseRow, PROMPTS, TEXT, st.just(AT), st.none() | MESSAGES),
    st.builds(RankingRow, PROMPTS, st.tuples(TEXT, TEXT), st.just((0, 1)), st.just(AT)),
    st.builds(LabeledRow, PROMPTS, st.tuples(TEXT), st.tuples(st.booleans()), st.just(AT)),
    st.builds(PromptRow, PROMPTS, st.just(AT), st.dictionaries(TEXT, JSON, max_size=3)),
)


def write(path: Path, records: list[dict[str, Any]]) -> SourceConfig:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return SourceConfig(path=str(path))


def pairs(number: int) -> list[dict[str, Any]]:
    words = ["the", "sky", "is", "blue", "and", "the", "grass", "is", "green", "one", "two", "three"]
    return [
        {
            "prompt": " ".join(words[: 1 + n % 11]),
            "chosen": f" yes {words[n % 7]} " * (1 + n % 5),
            "rejected": f" yes {words[n % 7]} " * (1 + n % 5) + ("no" if n % 3 else ""),
        }
        for n in range(number)
    ]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "ROWS_PER_CHUNK", 7)


@given(ROWS)
def test_a_row_is_read_back_exactly(row: Any) -> None:
    again = decoded(encoded(row), type(row), AT)
    assert again == row
    assert repr(again) == repr(row)
    assert decoded(encoded(row), type(row), Origin("g", 1)) == replace(row, origin=Origin("g", 1))


@pytest.mark.parametrize("tokenizer", [byte_level(CHAT_TEMPLATE), space_in_front()], ids=["bytes", "spaces"])
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_prompt_tokens": 12},
        {"overlong": "truncate", "max_response_tokens": 9},
        {"overlong": "truncate", "max_prompt_tokens": 5},
    ],
)
def test_stored_trees_are_those_in_memory(tmp_path: Path, tokenizer: Any, limits: dict[str, Any]) -> None:
    source = write(tmp_path / "pairs.jsonl", pairs(60))
    config = DataConfig.model_validate({"sources": [source.path], **limits})
    expected = tokenize_rows(read_source(source, RankingRow).rows, tokenizer, config, 60)
    cache = DataCache(tmp_path / "cache")
    rows = cache.rows(source, RankingRow, 0)
    trees = JoinedTrees([cache.trees(rows, tokenizer, config, all_turns=True)])
    found = within_limits(trees, trees.of_rows(range(len(rows))), tokenizer, config, 60)  # type: ignore[arg-type]
    assert list(found.rows) == list(expected.rows)
    assert (found.dropped, found.truncated) == (expected.dropped, expected.truncated)
    assert {**trees.parts[0].counted, **found.counted} == expected.counted  # type: ignore[attr-defined]
    assert list(rows) == read_source(source, RankingRow).rows


def test_dialogues_text_and_labels_are_stored(tmp_path: Path) -> None:
    tokenizer, cache = byte_level(CHAT_TEMPLATE), DataCache(tmp_path / "cache")
    turns = [{"role": role, "content": f"{role} says"} for role in ("user", "assistant", "user", "assistant")]
    for name, records, kind in (
        ("dialogues", [{"messages": turns}] * 3, ResponseRow),
        ("texts", [{"text": "once upon a time"}] * 3, TextRow),
        ("labels", [{"prompt": "p", "completion": " c", "label": True}] * 3, LabeledRow),
        ("prompts", [{"prompt": "p", "hint": {"a": [1, None]}}] * 3, PromptRow),
    ):
        source = write(tmp_path / f"{name}.jsonl", records)
        config = DataConfig(sources=[source])
        expected = tokenize_rows(read_source(source, kind).rows, tokenizer, config, 400)
        found: StoredTrees[Any] = cache.trees(cache.rows(source, kind, 0), tokenizer, config, all_turns=True)
        assert list(found) == list(expected.rows), name
        assert found[0].tree.learned == expected.rows[0].tree.learned


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock" and "checksums" not in path.parts
    }


def test_a_build_that_is_killed_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, tokenizer = write(tmp_path / "pairs.jsonl", [*pairs(30), {"prompt": "bad"}]), byte_level()
    config, original = DataConfig(sources=[source]), os.fsync

    def build(folder: Path) -> None:
        cache = DataCache(folder)
        cache.trees(cache.rows(source, RankingRow, 0), tokenizer, config, all_turns=True)

    build(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    kills = 0
    for fatal in range(1, 200):
        calls = iter(range(1, 10**6))

        def fsync(file: int, fatal: int = fatal, calls: Iterator[int] = calls) -> None:
            if next(calls) == fatal:
                raise Killed
            original(file)

        monkeypatch.setattr("os.fsync", fsync)
        folder = tmp_path / f"killed-{fatal}"
        try:
            build(folder)
        except Killed:
            kills += 1
            monkeypatch.setattr("os.fsync", original)
            build(folder)
        assert contents(folder) == expected, fatal
        if next(calls) <= fatal:
            break
    assert kills > 20


def test_long_rows_make_chunks_of_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, tokenizer = write(tmp_path / "pairs.jsonl", pairs(40)), byte_level()
    config = DataConfig(sources=[source])

    def build(name: str) -> list[Any]:
        cache = DataCache(tmp_path / name)
        return list(cache.trees(cache.rows(source, RankingRow, 0), tokenizer, config, all_turns=True))

    expected, sizes, original = build("few rows"), [], tokenized_completely

    def watched(rows: Sequence[Row], *others: Any) -> Any:
        sizes.append([len(encoded(row)) for row in rows])
        return original(rows, *others)

    monkeypatch.setattr(row_store, "ROWS_PER_CHUNK", 1000)
    monkeypatch.setattr(row_store, "BYTES_PER_CHUNK", 300)
    monkeypatch.setattr("plaudit.data.store.trees.tokenized_completely", watched)
    assert build("few bytes") == expected
    assert all(sum(chunk[:-1]) < 300 <= sum(chunk) for chunk in sizes[:-1])
    assert max(map(len, sizes)) > 1
    [journal] = (tmp_path / "few bytes").glob("rows-*/journal")
    assert len(journal.read_text().splitlines()) == len(sizes) + 1 + (sum(sizes[-1]) >= 300)


@pytest.mark.parametrize("stored", [0, 7])
def test_the_draws_of_any_seed_are_those_of_the_rows(tmp_path: Path, stored: int) -> None:
    source = write(tmp_path / "pairs.jsonl", pairs(20))
    rows = DataCache(tmp_path / "cache").rows(source, RankingRow, stored)
    for seed in (0, 7, 0):
        assert rows.draws(seed).tolist() == held_out_draws(list(rows), seed).tolist()
    assert [path.name for path in rows.folder.glob("held-out-*")] == [f"held-out-{7 - stored}"]


def test_a_flipped_bit_is_found_in_every_column(tmp_path: Path) -> None:
    source, tokenizer = write(tmp_path / "pairs.jsonl", pairs(20)), byte_level()
    cache, config = DataCache(tmp_path / "cache"), DataConfig(sources=[source])

    def read() -> None:
        rows = cache.rows(source, RankingRow, 0)
        trees = cache.trees(rows, tokenizer, config, all_turns=True)
        assert len(list(rows)) == len(list(trees)) == 13
        assert len(list(rows.rejects)) == 7
        assert len(rows.draws(0)) == 13

    read()
    files = [path for path in (tmp_path / "cache").glob("*/*") if path.stat().st_size and "checksums" not in path.parts]
    for path in files:
        if path.name == "lock":
            continue
        content = path.read_bytes()
        place = len(content) - 2 if path.name == "journal" else len(content) - 1
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(PlauditError, match=rf"{path.name}: damaged; delete the folder"):
            read()
        path.write_bytes(content)
        if path.name == "journal":
            continue  # without its end, it is continued
        path.write_bytes(content[:-1])
        with pytest.raises(PlauditError, match=rf"{path.name}: damaged"):
            read()
        path.write_bytes(content)
    read()


def test_a_finished_store_is_used_without_reading_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, tokenizer = write(tmp_path / "pairs.jsonl", pairs(20)), byte_level()
    cache, config = DataCache(tmp_path / "cache"), DataConfig(sources=[source])
    before = list(cache.trees(cache.rows(source, RankingRow, 0), tokenizer, config, all_turns=True))

    def refuse(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("plaudit.data.sources.read_records", refuse)
    monkeypatch.setattr("plaudit.data.store.trees.tokenized_completely", refuse)
    again = source.model_copy(update={"weight": 2.0})
    assert list(cache.trees(cache.rows(again, RankingRow, 0), tokenizer, config, all_turns=True)) == before


def test_whatever_a_store_depends_on_changes_its_name(tmp_path: Path) -> None:
    source, cache = write(tmp_path / "pairs.jsonl", pairs(20)), DataCache(tmp_path / "cache")

    def names(source: SourceConfig, kind: type[Row], tokenizer: Any, **settings: Any) -> tuple[str, str]:
        rows = cache.rows(source, kind, 0)
        config = DataConfig.model_validate({"sources": [source], **settings})
        trees = cache.trees(rows, tokenizer, config, all_turns=settings.get("overlong") != "error")
        return rows.folder.name, trees.folder.name

    first = names(source, RankingRow, byte_level())
    assert names(source, RankingRow, byte_level(), max_prompt_tokens=3, held_out_fraction=0.5) == first
    for tokenizer, settings in (
        (space_in_front(), {}),
        (byte_level(CHAT_TEMPLATE), {}),
        (byte_level(), {"prompt_template": "Q: {prompt}"}),
        (byte_level(), {"special_tokens": "token"}),
        (byte_level(), {"overlong": "error"}),
    ):
        rows, trees = names(source, RankingRow, tokenizer, **settings)
        assert rows == first[0]
        assert trees != first[1]
    others = [
        names(source, ResponseRow, byte_level()),
        names(source.model_copy(update={"limit": 3}), RankingRow, byte_level()),
        names(write(tmp_path / "pairs.jsonl", pairs(21)), RankingRow, byte_level()),
    ]
    assert len({first[0], *(rows for rows, _ in others)}) == 4


def test_processes_that_start_together_build_one_store(tmp_path: Path) -> None:
    source, folder = write(tmp_path / "pairs.jsonl", pairs(200)), tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=load, args=(source, folder)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(DataCache(folder).entries()) == 2
    load(source, tmp_path / "alone")
    assert contents(folder) == contents(tmp_path / "alone")


def load(source: SourceConfig, folder: Path) -> None:
    """Read rows and trees through a cache."""
    cache = DataCache(folder)
    cache.trees(cache.rows(source, RankingRow, 0), byte_level(), DataConfig(sources=[source]), all_turns=True)


@dataclass(frozen=True)
class LooseRow(PromptRow):
    """A row with a tuple that is declared as anything, so that it comes back as a list."""

    kind: ClassVar[str] = "loose"
    pair: Any = ("a", "b")


def test_a_row_that_json_changes_is_refused() -> None:
    with pytest.raises(PlauditError, match=r"^f line 3: a loose row is not read back from JSON as it was"):
        row_store._encoded(LooseRow("p", AT))
    dated = PromptRow("p", AT, {"day": date(2026, 1, 2)})
    assert decoded(row_store._encoded(dated), PromptRow, AT).fields == {"day": "2026-01-02"}


def test_clearing_deletes_stores_alone(tmp_path: Path) -> None:
    cache, store = DataCache(tmp_path / ".cache"), "rows-" + "0a" * 16
    for name in (store, "my-notes", "rows-old", f"{store}-copy"):
        (cache.folder / name).mkdir(parents=True)
        (cache.folder / name / "file").write_text("text")
    (cache.folder / f"tokens-{'0a' * 16}").symlink_to(tmp_path, target_is_directory=True)
    assert [entry.folder.name for entry in cache.entries()] == [store]
    assert cache.clear() == 4
    left = sorted(path.name for path in cache.folder.iterdir())
    assert left == sorted(["my-notes", "rows-old", f"{store}-copy", f"tokens-{'0a' * 16}"])
