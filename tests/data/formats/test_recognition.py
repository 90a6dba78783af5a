"""Which format is chosen and why, what is not read, and when a stage stops because of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from loaded_rows import load_rows
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.formats.columns import belongs_to_prompt, judges
from plaudit.data.formats.recognition import recognize
from plaudit.data.loading import refusal
from plaudit.data.rows import LabeledRow, Message, PromptRow, RankingRow, ResponseRow, Row, TextRow
from plaudit.data.sources import SourceRows, read_source
from plaudit.errors import PlauditError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
PAIR = {"prompt": "q", "chosen": " a", "rejected": " b"}


def read(folder: Path, records: list[Any], kind: type[Row] | None = None, **options: Any) -> SourceRows[Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_source(SourceConfig.model_validate({"path": str(path), **options}), kind)


@pytest.mark.parametrize(
    "record, kind, name",
    [
        ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, RankingRow, "preference"),
        ({"question": "q", "chosen": "a", "rejected": "b"}, RankingRow, "preference"),
        ({"prompt": "q", "completion": "a", "label": 0.0}, ResponseRow, "unpaired_preference"),
        ({"prompt": "q", "completion": "a", "label": "sky"}, ResponseRow, "unpaired_preference"),
        ({"messages": TURNS, "label": False}, ResponseRow, "labeled_messages"),
        ({"messages": TURNS, "prompt": "q"}, ResponseRow, "messages"),
        ({"text": "t", "label": 1}, TextRow, "text"),
        ({"text": "t", "label": 1}, PromptRow, "text"),
        ({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "a"}, None, "comparison"),
        ({"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1}, None, "alpaca_eval"),
        ({"prompt": "q", "answer": "a"}, PromptRow, "prompt_response"),
        ({"prompt": "q", "prompt_response": "a"}, PromptRow, "prompt"),
        ({"query": "q", "response": "a", "history": []}, ResponseRow, "question_answer"),
    ],
)
def test_the_format_that_reads_all_with_meaning(record: dict[str, Any], kind: type[Row] | None, name: str) -> None:
    assert recognize("auto", [record], kind, "rows.jsonl").row_format.name == name


def test_the_reason_names_the_columns_and_what_others_would_leave_out() -> None:
    record = {**PAIR, "system": "S", "id": 1}
    reason = recognize("auto", [record], RankingRow, "rows.jsonl").reason
    assert reason == "columns chosen, prompt, rejected, system; implicit_preference would not read prompt"
    assert recognize("preference", [record], RankingRow, "f").reason == "named in the configuration"


@pytest.mark.parametrize(
    "record, kind, column, looks",
    [
        ({"prompt": "q", "response": "a", "is_safe": False}, ResponseRow, "is_safe", "a judgement"),
        ({"prompt": "q", "response": "a", "score": 0}, ResponseRow, "score", "a judgement"),
        ({"messages": TURNS, "rating": 1}, ResponseRow, "rating", "a judgement"),
        ({"text": "t", "label": 1}, TextRow, "label", "a judgement"),
        ({**PAIR, "winner": "b"}, RankingRow, "winner", "a judgement"),
        ({**PAIR, "question": "q"}, RankingRow, "question", "a part of the prompt"),
        ({"question": "q", "answer": "a", "context": "c"}, ResponseRow, "context", "a part of the prompt"),
        ({"messages": TURNS, "images": ["a.png"]}, ResponseRow, "images", "a part of the prompt"),
        ({"prompt": "q", "context": "r"}, PromptRow, "context", "a part of the prompt"),
        ({"messages": TURNS, "response": "b"}, ResponseRow, "response", "a response"),
    ],
)
def test_a_stage_stops_if_a_column_with_meaning_is_not_read(
    tmp_path: Path, record: dict[str, Any], kind: type[Row], column: str, looks: str
) -> None:
    found = read(tmp_path, [record] * 3, kind)
    assert found.counts.unread[column] == 3
    reason = refusal(found, max_bad_fraction=1)
    assert reason is not None
    assert f"does not read {column}, which looks like {looks} (in 3 records, such as " in reason
    assert "`ignore_columns: " in reason
    config = DataConfig.model_validate({"sources": [str(tmp_path / "rows.jsonl")], "held_out_fraction": 0})
    with pytest.raises(PlauditError, match=f"does not read {column}"):
        load_rows(config, kind, None, 0)
    ignoring = read(tmp_path, [record], kind, ignore_columns=[column])
    assert refusal(ignoring, max_bad_fraction=0) is None
    assert column not in ignoring.counts.unread


def test_columns_without_meaning_are_listed_only(tmp_path: Path) -> None:
    found = read(tmp_path, [{**PAIR, "id": 1, "source": "s", "chosen_model": "m", "system": None, "score": ""}])
    assert found.counts.unread == {"chosen_model": 1, "id": 1, "source": 1}
    assert refusal(found, 0) is None


def test_prompts_carry_judgements_and_ignored_columns_along(tmp_path: Path) -> None:
    found = read(tmp_path, [{"prompt": "q", "label": 4, "question": "r"}], PromptRow, ignore_columns=["question"])
    assert refusal(found, 0) is None
    assert [dict(row.fields) for row in found.rows] == [{"label": 4, "question": "r"}]


def test_an_ignored_column_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="`ignore_columns` names scores, but no row has it"):
        read(tmp_path, [PAIR], ignore_columns=["scores"])


def test_ignoring_a_label_leaves_completions(tmp_path: Path) -> None:
    records = [{"prompt": "q", "completion": " a", "label": "sky"}]
    found = read(tmp_path, records, ResponseRow, ignore_columns=["label"])
    assert (found.counts.format, len(found.rows)) == ("prompt_completion", 1)


def test_the_closest_formats_are_named_with_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="preference has prompt, chosen in common and needs rejected"):
        read(tmp_path, [{"prompt": "q", "chosen": "a", "worse": "b"}], RankingRow)
    with pytest.raises(PlauditError, match=r"closest: preference needs prompt, chosen, rejected; "):
        read(tmp_path, [{"the_prompt": "q", "chosen_text": "a", "rejected_text": "b"}], RankingRow)
    with pytest.raises(PlauditError, match=r"columns x, y; closest: none has a column in common"):
        read(tmp_path, [{"x": 1, "y": 2}])


@pytest.mark.parametrize(
    "columns, kind, remedy",
    [
        (["Prompt", "Chosen"], None, 'only the spelling differs: `columns: {"Chosen": "chosen", "Prompt": "prompt"}`'),
        ([" prompt", "RESPONSE\u00a0"], ResponseRow, '`columns: {" prompt": "prompt", "RESPONSE\u00a0": "response"}`'),
        (["prompt", "Response"], ResponseRow, '`columns: {"Response": "response"}`'),
        (["prompt", "chosen", "Rejected"], RankingRow, '`columns: {"Rejected": "rejected"}`'),
        (["Prompt", "Response", "RESPONSE"], None, "RESPONSE, Response may each be response: list all but one under"),
        (["prompt", " Response ", "Response"], ResponseRow, "' Response ', Response may each be response"),
    ],
)
def test_columns_that_differ_by_case_or_spaces(tmp_path: Path, columns: list[str], kind: Any, remedy: str) -> None:
    with pytest.raises(PlauditError) as refused:
        read(tmp_path, [dict.fromkeys(columns, "some text")], kind)
    assert remedy in str(refused.value)


@pytest.mark.parametrize("others", [["Prompt"], [" prompt "], ["RESPONSE"], ["prompt", "Response", "RESPONSE"]])
def test_a_second_column_of_nearly_the_same_name_is_not_dropped_silently(tmp_path: Path, others: list[str]) -> None:
    found = read(tmp_path, [{"prompt": "q", "response": "a"} | dict.fromkeys(others, "x")], ResponseRow)
    assert found.counts.format == "prompt_response"
    assert set(found.counts.unread) == set(others) - {"prompt"}
    assert "may each be" in found.counts.reason
    assert "choose a format that does" in str(refusal(found, 0.5))


def test_of_two_responses_that_differ_only_by_case_none_is_guessed(tmp_path: Path) -> None:
    record = {"prompt": "q", "response_b": "b", "winner": "a"}
    with pytest.raises(PlauditError, match="ranking rows are needed"):
        read(tmp_path, [record | {"Response_A": "x", "RESPONSE_A": "y"}], RankingRow)
    found = read(tmp_path, [record | {"Response_A": "x", "response_a": "y"}], RankingRow)
    assert found.rows[0].responses == ("y", "b")
    assert "Response_A" in str(refusal(found, 0))
    assert read(tmp_path, [record | {"Response_A": "x"}], RankingRow).rows[0].responses == ("x", "b")


EMPTY = [
    ("prompt,response,label\nq,a,\nr,b,\n", None, "prompt_response"),
    ("prompt,response,chosen,rejected\nq,a,,\nr,b,,\n", None, "prompt_response"),
    ("prompt,chosen,rejected,response_a,response_b,winner\nq,a,b,,,\nr,c,d,,,\n", RankingRow, "preference"),
    ("prompt,chosen,rejected,system\nq,a,b,\nr,c,d,\n", RankingRow, "preference"),
    ("prompt,completion,label,messages\nq,a,1,\nr,b,0,\n", None, "unpaired_preference"),
    ("instruction,context,response\nq,,a\nr,,b\n", ResponseRow, "alpaca"),
    ("instruction,context,response\nq,,a\nr,,b\ns,c,d\n", ResponseRow, "dolly"),
    ("prompt,response,label\nq,a,1\nr,b,\ns,c,\n", None, "unpaired_preference"),
    ("prompt,response,label,score\nq,a,,1\nr,b,,2\n", ResponseRow, "prompt_response"),
    ("prompt,response_a,response_b,winner\nq,a,b,\nr,c,d,\n", None, "comparison"),
    ("prompt,response\nq,\nr,\n", None, "prompt"),
    ("prompt,response\nq,\nr,\n", ResponseRow, "prompt_response"),
]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("table, kind, name", EMPTY)
def test_empty_cells_count_as_missing_when_a_format_is_recognized(
    tmp_path: Path, table: str, kind: Any, name: str, delimiter: str
) -> None:
    """Empty columns steer nothing, mostly empty ones do, and a format that fits only with them still does."""
    path = tmp_path / "rows.csv"
    path.write_text(table.replace(",", delimiter))
    header, *rows = (line.split(",") for line in table.splitlines())
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    assert {read_source(SourceConfig(path=str(file)), kind).counts.format for file in (path, lines)} == {name}


def test_a_label_that_cannot_be_read_never_leaves_a_response_to_learn(tmp_path: Path) -> None:
    values = [0.0, 1.0, "false", "true", "maybe", None]
    found = read(
        tmp_path, [{"prompt": "q", "completion": f" {value}", "label": value} for value in values], ResponseRow
    )
    assert [row.response for row in found.rows] == [" 1.0", " true"]
    assert found.counts.unused == {"undesirable response": 2}
    assert found.counts.bad == {"label is not true or false: maybe": 1, "label is missing": 1}


def test_zero_and_minus_one_in_one_file(tmp_path: Path) -> None:
    def rows(*values: Any) -> list[dict[str, Any]]:
        return [{"prompt": "q", "completion": "a", "label": value} for value in values]

    with pytest.raises(PlauditError, match="both 0 and -1"):
        read(tmp_path, rows(1, 0, -1), LabeledRow)
    signed = read(tmp_path, rows(*[1, -1] * 60, 0), LabeledRow)
    assert [row.desirable for row in signed.rows] == [(True,), (False,)] * 60
    assert [reject.origin.line for reject in signed.rejects] == [121]
    unsigned = read(tmp_path, rows(*[1, 0] * 60, -1.0), LabeledRow)
    assert [reject.origin.line for reject in unsigned.rejects] == [121]


def test_a_second_prompt_in_the_messages_is_compared(tmp_path: Path) -> None:
    found = read(tmp_path, [{"prompt": "q", "messages": TURNS}, {"prompt": "other", "messages": json.dumps(TURNS)}])
    assert found.counts.bad == {"mismatched prompts": 1}
    assert [row.prompt for row in found.rows] == [(Message("user", "q"),)]


@pytest.mark.parametrize(
    "column", ["label", "Score", "helpfulness", "is_safe", "isSafe", "chosen-rating", "human_preference", "kto_tag"]
)
def test_names_that_judge(column: str) -> None:
    assert judges(column)


@pytest.mark.parametrize("column", ["id", "source", "chosen_model", "label_id", "score_ratio", "language", "topic", ""])
def test_names_that_do_not_judge(column: str) -> None:
    assert not judges(column)


def test_names_that_belong_to_a_prompt() -> None:
    assert all(map(belongs_to_prompt, ["system", "context", "images", "tools", "raw_prompt", "Conversations"]))
    assert not any(map(belongs_to_prompt, ["prompt_id", "id", "text", "answer", "promptness"]))


def test_names_of_columns_cannot_break_or_flood_a_message(tmp_path: Path) -> None:
    with pytest.raises(PlauditError) as caught:
        read(tmp_path, [{"a\n\x1b[2J": 1, **{f"column {number:03}": 1 for number in range(200)}}])
    message = str(caught.value)
    assert r"a\n\x1b[2J, column 000, " in message
    assert "column 028 and 171 more" in message
    assert message.isprintable()


@pytest.mark.parametrize("empty", [90, 150, 5000])
def test_columns_that_most_of_the_first_records_leave_empty_decide_as_well(tmp_path: Path, empty: int) -> None:
    votes = [{"prompt": f"q{n}", "response_a": "a", "response_b": "b", "winner": None} for n in range(empty)]
    votes += [{**votes[0], "winner": "ab"[n % 2]} for n in range(50)]
    for kind in (None, RankingRow):
        found = read(tmp_path, votes, kind)
        assert (found.counts.format, found.counts.rows) == ("comparison", 50)
        assert found.counts.bad == {"winner is missing": empty}
        assert "winner is missing" in str(refusal(found, 0.01))
    prompts = read(tmp_path, votes, PromptRow)
    assert (prompts.counts.format, prompts.counts.rows) == ("prompt", empty + 50)


def test_numbers_of_responses_are_understood_by_records_that_have_one(tmp_path: Path) -> None:
    votes: list[dict[str, Any]] = [
        {"prompt": f"q{n}", "output_a": "a", "output_b": "b", "winner": None} for n in range(200)
    ]
    votes += [{**votes[0], "winner": n % 2} for n in range(50)]
    found = read(tmp_path, votes)
    assert [row.ranks for row in found.rows] == [(0, 1), (1, 0)] * 25


def test_optional_columns_that_are_mostly_empty_are_read_or_reported(tmp_path: Path) -> None:
    pairs = [{**PAIR, "system": "S" if n > 300 else None, "question": "x" if n > 350 else None} for n in range(400)]
    found = read(tmp_path, pairs)
    assert sum(isinstance(row.prompt, tuple) for row in found.rows) == 99
    assert found.counts.unread == {"question": 49}
    assert "does not read question" in str(refusal(found, 0))


def test_a_text_beside_responses_without_a_prompt_stops_a_stage(tmp_path: Path) -> None:
    records = [
        {"problem": f"Question number {n}", "chosen": f"The cats {n}", "rejected": f"The dogs {n}"} for n in range(9)
    ]
    found = read(tmp_path, records, RankingRow)
    reason = refusal(found, 0)
    assert reason is not None
    assert "does not read problem, which may be the prompt (in 9 records, such as Question number 0)" in reason
    assert refusal(read(tmp_path, records, RankingRow, ignore_columns=["problem"]), 0) is None
    sources = [record | {"problem": "stack_exchange"} for record in records]
    assert refusal(read(tmp_path, sources, RankingRow), 0) is None
