"""Sources become training and held-out rows: splits by prompt, weights, counts, rejects, limits on bad rows."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaded_rows import load_rows
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data import loading, splits
from plaudit.data.loading import LoadedRows
from plaudit.data.rows import Message, Origin, PromptRow, RankingRow, ResponseRow, Row, TextRow
from plaudit.data.splits import Split, held_out_draws, keys_of, prompt_key, row_content
from plaudit.data.store.cache import DataCache
from plaudit.data.store.rows import StoredRows
from plaudit.errors import PlauditError

ROWS = st.lists(st.tuples(st.integers(0, 30).map(str), st.sampled_from("ab")), max_size=40).map(
    lambda pairs: [ResponseRow(prompt, response, Origin("f", line)) for line, (prompt, response) in enumerate(pairs)]
)


def _file(folder: Path, name: str, records: list[Any]) -> str:
    path = folder / name
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def _pairs(start: int, stop: int) -> list[dict[str, str]]:
    return [{"prompt": f"p{number}", "response": f"r{number}"} for number in range(start, stop)]


def _load(config: dict[str, Any], rejects: Path | None = None, seed: int = 0) -> LoadedRows[ResponseRow]:
    return load_rows(DataConfig.model_validate(config), ResponseRow, rejects, seed)


def _contents(rows: Sequence[Row]) -> Any:
    return keys_of(map(row_content, rows))


def split_rows(rows: Sequence[Row], fraction: float, seed: int) -> Split:
    draws = held_out_draws(rows, seed)
    return splits.split_rows(rows, keys_of(map(prompt_key, rows)), _contents(rows), draws, fraction, seed)


def repeated(rows: Sequence[Row], weight: float, seed: int) -> list[Row]:
    return [rows[index] for index in splits.repeated(rows, _contents(rows), weight, seed)]


def is_held_out(row: Row, fraction: float, seed: int) -> bool:
    return bool(held_out_draws([row], seed)[0] < fraction * 2**63)


def _prompts(rows: Sequence[Row]) -> Counter[str]:
    return Counter(prompt_key(row) for row in rows)


@given(rows=ROWS, seed=st.integers(0, 5), fraction=st.floats(0, 1), data=st.data())
def test_no_prompt_is_on_both_sides_whatever_the_order(
    rows: list[ResponseRow], seed: int, fraction: float, data: st.DataObject
) -> None:
    def held_out(some: list[ResponseRow]) -> set[tuple[Any, ...]]:
        return {(row.prompt, row.response) for row in some if is_held_out(row, fraction, seed)}

    chosen = held_out(rows)
    others = {(row.prompt, row.response) for row in rows} - chosen
    assert not {prompt for prompt, _ in chosen} & {prompt for prompt, _ in others}
    assert held_out(data.draw(st.permutations(rows))) == chosen
    part = rows[: data.draw(st.integers(0, len(rows)))]
    assert held_out(part) == {(row.prompt, row.response) for row in part} & chosen


def test_the_held_out_fraction_is_close_to_the_configured_one() -> None:
    rows = [TextRow(f"text {number}", Origin("f", number)) for number in range(4000)]
    for fraction in (0.0, 0.1, 0.5, 1.0):
        count = sum(is_held_out(row, fraction, seed=0) for row in rows)
        # Five standard deviations of a binomial count.
        assert abs(count - fraction * 4000) <= 5 * (4000 * fraction * (1 - fraction)) ** 0.5
    assert [is_held_out(row, 0.5, 0) for row in rows] != [is_held_out(row, 0.5, 1) for row in rows]


def test_a_prompt_is_the_same_in_every_kind_of_row() -> None:
    turns = (Message("user", "Hi"),)
    text = "\n\nHuman: Hi\n\nAssistant:"
    keys = {
        prompt_key(PromptRow(turns, Origin("a", 1))),
        prompt_key(ResponseRow(text, "x", Origin("b", 2))),
        prompt_key(TextRow(text + " ", Origin("c", 3))),
    }
    assert keys == {text.strip()}


def test_splits_hold_across_sources_and_weights(tmp_path: Path) -> None:
    first = _file(tmp_path, "a.jsonl", _pairs(0, 60))
    second = _file(tmp_path, "b.jsonl", _pairs(30, 90))
    loaded = _load({"sources": [first, {"path": second, "weight": 3}], "held_out_fraction": 0.3})
    train, held_out = _prompts(loaded.train), _prompts(loaded.held_out)
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == {f"p{number}" for number in range(90)}
    for number in range(90):
        in_first, in_second = number < 60, number >= 30
        key = f"p{number}"
        assert train[key] in (0, in_first + 3 * in_second)
        assert held_out[key] in (0, in_first + in_second)


def _answers(prompts: int, each: int, copies: int = 1) -> list[ResponseRow]:
    lines = [(prompt, answer) for prompt in range(prompts) for answer in range(each) for _ in range(copies)]
    return [ResponseRow(f"p{p}", f"r{a}", Origin("f", n)) for n, (p, a) in enumerate(lines)]


@pytest.mark.parametrize("seed", range(6))
def test_with_few_prompts_different_rows_are_held_out(seed: int) -> None:
    rows = _answers(2, 100, copies=3)
    split = split_rows(rows, 0.1, seed)
    held_out = {row_content(row) for row, out in zip(rows, split.held_out, strict=True) if out}
    trained = {row_content(row) for row, out in zip(rows, split.held_out, strict=True) if not out}
    assert (len(held_out), len(trained), sum(split.held_out)) == (20, 180, 60)
    assert not held_out & trained
    assert split.note == (
        "the 600 rows have only 2 different prompts, so rows are held out instead of prompts: 60, of which 60 have "
        "prompts that are also trained on; duplicates of earlier rows: 400"
    )
    backwards = split_rows(rows[::-1], 0.1, seed)
    assert backwards.held_out.tolist() == split.held_out[::-1].tolist()


def test_with_few_different_rows_copies_are_held_out() -> None:
    texts = [TextRow(f"text {number % 2}", Origin("f", number)) for number in range(40)]
    split = split_rows(texts, 0.1, 0)
    assert sum(split.held_out) == 4
    assert split.note is not None
    assert "only 2 different texts, so rows are held out instead of texts: 4, of which 4 have" in split.note
    assert split.note.endswith("duplicates of earlier rows: 38")


def test_too_few_rows_are_not_held_out_and_enough_prompts_never_fail_by_chance() -> None:
    nothing = [split_rows(_answers(3, 1), 0.1, seed) for seed in range(9)]
    notes = {split.note for split in nothing if not any(split.held_out)}
    assert notes == {"nothing is held out: 3 different prompts are too few for held_out_fraction=0.1"}
    assert all(split.note is None for split in nothing if any(split.held_out))
    splits = [split_rows(_answers(12, 2), 0.1, seed) for seed in range(30)]
    assert {split.note for split in splits} == {None}
    assert all(0 < sum(split.held_out) < 24 and sum(split.held_out) % 2 == 0 for split in splits)
    assert sum(split_rows(_answers(1, 9), 0.0, 0).held_out) == 0
    assert split_rows(_answers(1, 9), 0.0, 0).note is None


def test_rows_of_few_prompts_are_split_across_weighted_sources(tmp_path: Path) -> None:
    paths = [
        _file(tmp_path, f"{name}.jsonl", [{"prompt": "p", "response": f"{name}{n}"} for n in range(20)])
        for name in "ab"
    ]
    loaded = _load({"sources": [paths[0], {"path": paths[1], "weight": 2}]})
    held_out = {row.response for row in loaded.held_out}
    assert len(held_out) == len(loaded.held_out) == 4
    expected = {f"{name}{n}": weight for name, weight in (("a", 1), ("b", 2)) for n in range(20)}
    assert Counter(row.response for row in loaded.train) == {
        name: weight for name, weight in expected.items() if name not in held_out
    }
    assert loaded.warnings() == [loaded.note]


def test_a_split_is_drawn_once_and_then_read_without_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = _file(tmp_path, "few.jsonl", [{"prompt": "p", "response": f"r{number}"} for number in range(40)])
    cache, read = DataCache(tmp_path / "cache"), []
    original = StoredRows.item

    def counted(self: StoredRows[Any], index: int) -> Any:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(StoredRows, "item", counted)

    def split(
        seed: int = 0, weight: float = 1.5, fraction: float = 0.2
    ) -> tuple[list[int], list[int], str | None, int]:
        sources = [{"path": few, "weight": weight}]
        config = DataConfig.model_validate({"sources": sources, "held_out_fraction": fraction})
        read.clear()
        found = loading.load_rows(config, ResponseRow, None, seed, cache)
        return found.train_indices.tolist(), found.held_out_indices.tolist(), found.note, len(read)

    first, again = split(), split()
    assert first[:3] == again[:3]
    assert (first[3] > 0, again[3]) == (True, 0)
    assert len(first[0]) == 32 * 1.5
    assert all(split(**changed)[:2] != first[:2] for changed in ({"seed": 1}, {"weight": 1.0}, {"fraction": 0.5}))


@given(rows=ROWS, weight=st.floats(0.01, 4), data=st.data())
def test_weights_repeat_rows_exactly_and_in_any_order(
    rows: list[ResponseRow], weight: float, data: st.DataObject
) -> None:
    def counted(some: Sequence[Row]) -> Counter[tuple[Any, ...]]:
        return Counter((row.prompt, row.response) for row in some if isinstance(row, ResponseRow))

    result = repeated(rows, weight, seed=3)
    assert len(result) == int(weight) * len(rows) + round((weight - int(weight)) * len(rows))
    once = counted([*rows])
    for content, number in counted(result).items():
        assert int(weight) * once[content] <= number <= (int(weight) + 1) * once[content]
    assert counted(repeated(data.draw(st.permutations(rows)), weight, seed=3)) == counted(result)


def test_held_out_sources_take_their_prompts_out_of_training(tmp_path: Path) -> None:
    train = _file(tmp_path, "train.jsonl", [*_pairs(0, 10), *_pairs(0, 2)])
    test = _file(tmp_path, "test.jsonl", _pairs(1, 4))
    loaded = _load({"sources": [{"path": train, "weight": 2}], "held_out": [test]})
    assert _prompts(loaded.held_out) == {"p1": 1, "p2": 1, "p3": 1}
    assert _prompts(loaded.train) == {"p0": 4} | {f"p{number}": 2 for number in range(4, 10)}
    assert loaded.removed == 4
    assert loaded.summary()[-1] == "4 training rows removed: prompt is held out"
    assert [count.source for count in loaded.counts] == [train, test]


def test_bad_rows_are_counted_and_written_with_their_place(tmp_path: Path) -> None:
    records = [*_pairs(0, 20), "{not json", {"prompt": "x"}, {"prompt": "y", "response": " "}, [1], *_pairs(20, 40)]
    path, rejects = _file(tmp_path, "rows.jsonl", records), tmp_path / "new" / "rejects.jsonl"
    loaded = _load({"sources": [path], "max_bad_fraction": 0.1}, rejects)
    reasons = {"malformed JSON": 1, "response is missing": 1, "empty response": 1, "not a JSON object": 1}
    (counts,) = loaded.counts
    assert (counts.records, counts.rows, counts.bad, counts.bad_records) == (44, 40, reasons, 4)
    assert counts.format == "prompt_response"
    assert len(loaded.train) + len(loaded.held_out) == 40
    written = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert written == [
        {"source": path, "line": 21, "reason": "malformed JSON", "record": "{not json"},
        {"source": path, "line": 22, "reason": "response is missing", "record": '{"prompt": "x"}'},
        {"source": path, "line": 23, "reason": "empty response", "record": '{"prompt": "y", "response": " "}'},
        {"source": path, "line": 24, "reason": "not a JSON object", "record": "[1]"},
    ]
    assert loaded.summary()[0].startswith(f"{path} (prompt_response): 44 records, 40 rows, 1 bad: ")


def test_too_many_bad_rows_stop_the_run_and_still_write_the_rejects(tmp_path: Path) -> None:
    path = _file(tmp_path, "rows.jsonl", [*_pairs(0, 18), {"prompt": "x"}, "no"])
    rejects = tmp_path / "rejects.jsonl"
    assert len(_load({"sources": [path], "max_bad_fraction": 0.1}).counts[0].bad) == 2
    with pytest.raises(PlauditError) as caught:
        _load({"sources": [path], "max_bad_fraction": 0.09}, rejects)
    message = str(caught.value)
    assert message.startswith(f"{path} line 19: response is missing; 2 of 20 records are bad (")
    assert "1 malformed JSON" in message
    assert "max_bad_fraction=0.09" in message
    assert str(rejects) in message
    assert len(rejects.read_text().splitlines()) == 2


def test_a_bad_held_out_source_also_stops_the_run(tmp_path: Path) -> None:
    good = _file(tmp_path, "good.jsonl", _pairs(0, 10))
    bad = _file(tmp_path, "bad.jsonl", [*_pairs(20, 23), {"prompt": "x"}])
    with pytest.raises(PlauditError, match=r"bad.jsonl line 4: response is missing; 1 of 4 records are bad"):
        _load({"sources": [good], "held_out": [bad]})


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = _file(tmp_path, "rows.jsonl", _pairs(0, 3))
    with pytest.raises(PlauditError, match="all rows are held out"):
        _load({"sources": [path], "held_out": [path]})
    with pytest.raises(PlauditError, match="contains no response row"):
        _load({"sources": [_file(tmp_path, "bad.jsonl", [{"prompt": "p", "response": ""}])], "max_bad_fraction": 1})
    with pytest.raises(PlauditError, match=r"line 1: malformed JSON"):
        _load({"sources": [_file(tmp_path, "worse.jsonl", ["{", "{"])], "max_bad_fraction": 1})
    everything = _load({"sources": [path], "held_out_fraction": 1})
    assert (len(everything.train), len(everything.held_out)) == (0, 3)


def test_limit_takes_the_first_records(tmp_path: Path) -> None:
    path = _file(tmp_path, "rows.jsonl", _pairs(0, 30))
    loaded = _load({"sources": [{"path": path, "limit": 7}], "held_out_fraction": 0})
    assert _prompts(loaded.train) == {f"p{number}": 1 for number in range(7)}
    assert len(loaded.held_out) == 0


def test_the_log_says_what_was_read_left_out_and_taken_as_better(tmp_path: Path) -> None:
    records = [{"prompt": f"p{n}", "response_a": "x", "response_b": "y", "winner": "b", "id": n} for n in range(9)]
    path = _file(tmp_path, "votes.jsonl", records)
    config = DataConfig.model_validate({"sources": [path], "held_out_fraction": 0})
    loaded = load_rows(config, RankingRow, None, 0)
    assert loaded.summary() == [
        f"{path} (comparison): 9 records, 9 rows",
        f"{path}: format comparison by columns prompt, response_a, response_b, winner",
        f"{path}: columns not read: id",
        *(
            f'{path} line {line}: response 2 of 2 ("y") is taken as better than response 1 ("x"); winner is b'
            for line in (1, 2, 3)
        ),
    ]
    assert loaded.warnings() == [
        f"{path}: the first response is the better one in none of 9 rows; check that the judgement is read right"
    ]


@pytest.mark.parametrize(
    "columns, ignored",
    [
        ({"language_score": 0.93}, '["language_score"]'),
        ({"int_score": 4, "score": 4.1, "token_count": 9, "language": "en"}, '["int_score", "score"]'),
        ({"Bewertung: label": 1, "système_prompt": "x"}, '["Bewertung: label", "système_prompt"]'),
    ],
)
def test_a_refusal_names_the_columns_to_ignore_as_they_are_written(
    tmp_path: Path, columns: dict[str, Any], ignored: str
) -> None:
    path = _file(tmp_path, "web.jsonl", [{"text": f"t{number}", "url": "u", **columns} for number in range(4)])
    with pytest.raises(PlauditError) as refused:
        load_rows(DataConfig.model_validate({"sources": [path]}), TextRow, None, 0)
    assert f"`ignore_columns: {ignored}`" in str(refused.value)
    source = {"path": path, "ignore_columns": json.loads(ignored)}
    assert load_rows(DataConfig.model_validate({"sources": [source], "held_out_fraction": 0.0}), TextRow, None, 0).train


def test_a_number_as_the_answer_of_a_prompt_is_a_field(tmp_path: Path) -> None:
    for prompt in ("prompt", "question", "instruction"):
        path = _file(tmp_path, f"{prompt}.jsonl", [{prompt: f"p{number}", "answer": number} for number in range(4)])
        loaded = load_rows(DataConfig(sources=[SourceConfig(path=path)], held_out_fraction=0.0), PromptRow, None, 0)
        assert [row.fields for row in loaded.train] == [{"answer": number} for number in range(4)]
        with pytest.raises(PlauditError, match="response is not a string"):
            _load({"sources": [path]})


def test_prompts_with_unreadable_responses_can_be_read_alone(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", [*_pairs(0, 3), {"prompt": "p", "response": " "}])
    with pytest.raises(PlauditError, match="or read the prompts alone with `format: prompt`"):
        load_rows(DataConfig(sources=[SourceConfig(path=path)]), PromptRow, None, 0)
    with pytest.raises(PlauditError, match=r"fix them or raise it$"):
        _load({"sources": [path]})


def test_of_rankings_read_as_prompts_no_response_is_called_better(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", [{"prompt": "p", "chosen": "y", "rejected": "x"}] * 3)
    config = DataConfig(sources=[SourceConfig(path=path)], held_out_fraction=0.0)
    assert not any("better" in line for line in load_rows(config, PromptRow, None, 0).summary())
    assert any("better" in line for line in load_rows(config, RankingRow, None, 0).summary())
