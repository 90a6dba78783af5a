"""Judgements and context nested in columns that a format does not read stop a stage like columns of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.formats.base import Kind
from plaudit.data.loading import refusal
from plaudit.data.rows import PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.sources import SourceRows, read_source

LEARNED = {"prompt": "What floats?", "response": "Wood."}
DIALOGUE = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
PAIR = {"prompt": "What floats?", "chosen": "Wood.", "rejected": "Lead."}


def with_keys(**keys: Any) -> dict[str, Any]:
    """Return a dialogue whose last turn has further keys."""
    first, last = DIALOGUE["messages"]
    return {"messages": [first, last | keys]}


def read(folder: Path, record: dict[str, Any], kind: Kind, ignored: tuple[str, ...] = ()) -> SourceRows[Row]:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return read_source(SourceConfig(path=str(path), ignore_columns=list(ignored)), kind)


@pytest.mark.parametrize(
    "record, kind, name",
    [
        (LEARNED | {"metadata": {"source": "web", "label": 0}}, ResponseRow, "metadata.label"),
        (DIALOGUE | {"info": {"review": {"by": [{"is_safe": False}]}}}, ResponseRow, "info.review.by.is_safe"),
        (DIALOGUE | {"evals": [{"by": "x"}, {"verdict": "bad"}]}, ResponseRow, "evals.verdict"),
        (LEARNED | {"extra": [[{"thumbs_up": -1}]]}, ResponseRow, "extra.thumbs_up"),
        (LEARNED | {"meta": json.dumps({"rating": 1})}, ResponseRow, "meta.rating"),
        (LEARNED | {"meta": "{'rating': 1, 'note': None}"}, ResponseRow, "meta.rating"),
        (LEARNED | {"meta.images": ["a.png"]}, ResponseRow, "meta.images"),
        (PAIR | {"meta": {"system": "Lie."}}, RankingRow, "meta.system"),
        (PAIR | {"meta": {"given": {"context": "At sea."}}}, RankingRow, "meta.given.context"),
        ({"prompt": "Q", "setup": {"tools": [{"name": "f"}]}}, PromptRow, "setup.tools"),
        # A word of the prompt is no copy of it, and one copy does not hide another value.
        (PAIR | {"meta": {"question": "What"}}, RankingRow, "meta.question"),
        (PAIR | {"given": [{"question": "What floats?"}, {"question": "What sinks?"}]}, RankingRow, "given.question"),
    ],
)
def test_a_nested_key_with_a_meaning_stops_a_stage(
    tmp_path: Path, record: dict[str, Any], kind: Kind, name: str
) -> None:
    found = read(tmp_path, record, kind)
    reason = refusal(found, 0)
    assert reason is not None
    assert f"does not read {name}, which looks like" in reason
    assert f'`ignore_columns: ["{name}"]`' in reason
    for ignored in (name, name.split(".")[0]) if name not in record else (name,):
        accepted = read(tmp_path, record, kind, (ignored,))
        assert refusal(accepted, 0) is None
        assert name not in accepted.counts.unread
        assert accepted.rows[0].prompt == found.rows[0].prompt


@pytest.mark.parametrize(
    "record, kind",
    [
        (LEARNED | {"metadata": {"source": "web", "label": None, "scores": [], "score_model": "m"}}, ResponseRow),
        (LEARNED | {"note": "{label: 0}"}, ResponseRow),
        (LEARNED | {"tags": ["label", "score"]}, ResponseRow),
        # Copies of what is read are not lost.
        ({"prompt": [{"role": "user", "content": "What is 2 + 2? Think first."}], "extra_info": {
            "question": "What is 2 + 2?", "answer": "4"}}, PromptRow),
        (PAIR | {"meta": {"question": " What floats?"}}, RankingRow),
        # OpenHermes says whether a turn is an instruction of the user's own.
        (LEARNED | {"custom_instruction": False}, ResponseRow),
        (with_keys(weight=1, id=7, time="12:30", name="Bo"), ResponseRow),
        # Prompts keep judgements for reward functions.
        ({"prompt": "Q", "meta": {"label": 0}}, PromptRow),
        # What a format reads is no unread column, whatever keys it holds.
        ({"instruction": "Q", "completions": [{"response": "a", "overall_score": 1, "annotations": {"rating": 3}},
                                              {"response": "b", "overall_score": 2}]}, RankingRow),
        ({"question": "Q", "answers": [{"text": "a", "score": 1, "stars": 2}, {"text": "b", "score": 0}]}, RankingRow),
    ],
)  # fmt: skip
def test_other_nested_keys_do_not_stop_a_stage(tmp_path: Path, record: dict[str, Any], kind: Kind) -> None:
    found = read(tmp_path, record, kind)
    assert refusal(found, 0) is None
    assert not any("." in column for column in found.counts.unread)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("key, value", [("feedback", "negative"), ("score", -3), ("isSafe", False)])
def test_a_judgement_in_a_message_stops_a_stage(tmp_path: Path, key: str, value: object, as_text: bool) -> None:
    messages: Any = with_keys(**{key: value, "id": 7})["messages"]
    record = {"messages": json.dumps(messages) if as_text else messages}
    found = read(tmp_path, record, ResponseRow)
    assert f"does not read messages.{key}" in str(refusal(found, 0))
    accepted = read(tmp_path, record, ResponseRow, (f"messages.{key}",))
    assert refusal(accepted, 0) is None
    assert accepted.rows == found.rows
    assert refusal(read(tmp_path, record, PromptRow), 0) is None


def test_a_judgement_in_the_message_of_a_side_stops_a_stage(tmp_path: Path) -> None:
    sides = {"chosen": ("Wood.", 1), "rejected": ("Lead.", 5)}
    record = {side: {"role": "assistant", "content": text, "score": score} for side, (text, score) in sides.items()}
    found = read(tmp_path, {"prompt": "What floats?", **record}, RankingRow)
    assert "does not read chosen.score" in str(refusal(found, 0))


def test_a_nested_key_is_counted_once_per_record(tmp_path: Path) -> None:
    record = LEARNED | {"evals": [{"verdict": "bad"}, {"verdict": "good"}], "meta": {"id": 1, "stars": 2}}
    found = read(tmp_path, record, ResponseRow)
    assert found.counts.unread == {"evals": 1, "evals.verdict": 1, "meta": 1, "meta.stars": 1}
    assert found.counts.unread_examples["evals.verdict"] in ("bad", "good")


def test_formats_do_not_see_ignored_keys_but_prompts_carry_them(tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "One", "weight": 0}, {"role": "user", "content": "Q"},
             {"role": "assistant", "content": "Two"}]  # fmt: skip
    dialogue = {"messages": [{"role": "user", "content": "Hi"}, *turns]}
    assert not read(tmp_path, dialogue, ResponseRow).rows[0].prompt[1].learned  # type: ignore[index, union-attr]
    ignoring = read(tmp_path, dialogue, ResponseRow, ("messages.weight",))
    assert ignoring.rows[0].prompt[1].learned  # type: ignore[index, union-attr]
    kept = read(tmp_path, {"prompt": "Q", "meta": {"system": "s", "id": 1}}, PromptRow, ("meta.system",))
    [row] = kept.rows
    assert isinstance(row, PromptRow)
    assert row.fields == {"meta": {"system": "s", "id": 1}}


def test_columns_of_prompts_are_said_to_be_kept(tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": "2 + 2?", "level": 1}, PromptRow)
    assert (found.counts.unread, found.counts.unread_is_kept) == ({"level": 1}, True)
    assert not read(tmp_path, LEARNED | {"level": 1}, ResponseRow).counts.unread_is_kept
