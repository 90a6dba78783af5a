"""Records that a person would read in one way, or in none: they are learned in that way, or refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.loading import refusal
from plaudit.data.rows import RankingRow, ResponseRow, Row
from plaudit.data.sources import SourceRows, read_source
from plaudit.errors import PlauditError

ASK = {"role": "user", "content": "q"}


def read(folder: Path, records: list[Any], kind: type[Row] | None = None) -> SourceRows[Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return read_source(SourceConfig(path=str(path)), kind)


@pytest.mark.parametrize(
    "first, second, tie",
    [
        ("A>B", "A<B", "A=B"),
        ("[[A>>B]]", "[[B>>A]]", "[[A=B]]"),
        ("b << a", "b > a", "b == a"),
        ("The first response is better", "the second response is better", "Tie"),
        ("Response A is better.", "Model B wins", "both bad"),
        ("good text", "other text", "neither"),
    ],
)
def test_a_winner_in_words_signs_or_as_the_response(tmp_path: Path, first: str, second: str, tie: str) -> None:
    records = [
        {"prompt": "q", "response_a": "good text", "response_b": "other text", "winner": winner}
        for winner in (first, second, tie)
    ]
    found = read(tmp_path, records)
    assert [row.ranks for row in found.rows] == [(0, 1), (1, 0)]
    assert found.counts.unused == {"tie: no response is better": 1}


@pytest.mark.parametrize("winner", ["A>A", "A", "neither good text", "", True])
def test_a_winner_that_says_nothing_is_bad(tmp_path: Path, winner: Any) -> None:
    records = [{"prompt": "q", "response_x1": "A", "response_a": "A", "response_b": "B", "winner": winner}]
    found = read(tmp_path, records)
    assert [row.ranks for row in found.rows] == ([(0, 1)] if winner == "A" else [])


def test_the_best_of_several_responses_as_text(tmp_path: Path) -> None:
    records = [{"prompt": "q", "responses": ["x", "y", "z"], "best_response": text} for text in ("y", "w")]
    found = read(tmp_path, [*records, {"prompt": "q", "responses": ["y", "y", "z"], "best_response": "y"}])
    assert [row.ranks for row in found.rows] == [(1, 0, 1)]
    assert len(found.rejects) == 2


def test_a_ranking_that_may_be_an_order_is_refused(tmp_path: Path) -> None:
    rankings = [[2, 0, 1], [1, 0, 2], [2, 3, 1], [0, 0, 1]]
    found = read(tmp_path, [{"prompt": "q", "responses": ["a", "b", "c"], "ranking": ranks} for ranks in rankings])
    assert [row.origin.line for row in found.rows] == [2, 4]
    assert [reason for reason in found.counts.bad if "rename it to ranks" in reason]
    renamed = read(tmp_path, [{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 0, 1]}])
    assert renamed.rows[0].ranks == (2, 0, 1)


def test_responses_that_differ_in_white_space_or_repeat_the_prompt(tmp_path: Path) -> None:
    prompt = "Name a fruit:"
    found = read(
        tmp_path,
        [
            {"prompt": prompt, "chosen": " a", "rejected": "a\n"},
            {"prompt": prompt, "chosen": f"{prompt} a", "rejected": f"{prompt} b"},
            {"prompt": prompt, "chosen": f"{prompt} a", "rejected": " b"},
            {"prompt": "a", "chosen": "apple", "rejected": "ash"},
        ],
    )
    assert [row.origin.line for row in found.rows] == [3, 4]
    assert found.counts.bad == {
        "identical responses": 1,
        "both responses repeat the prompt; ignore the column prompt, or remove it from them": 1,
    }


@pytest.mark.parametrize("text", ["", " \n", "\u00a0", "\u200b", "\ufeff \u2060"])
def test_invisible_texts_are_empty(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, [{"prompt": "q", "response": text}], ResponseRow).counts.bad == {"empty response": 1}


def test_messages_that_reply_to_each_other_are_bad(tmp_path: Path) -> None:
    def message(name: str, parent: str | None, rank: int | None = None) -> dict[str, Any]:
        role = "prompter" if parent is None else "assistant"
        return {"message_id": name, "parent_id": parent, "message_tree_id": "t", "role": role, "text": name} | {
            "rank": rank
        }

    circle = [message("a", None), message("b", "c", 0), message("c", "b", 1)]
    assert read(tmp_path, circle).counts.bad == {"messages are replies to each other, in a circle": 1}
    tied = read(tmp_path, [message("a", None), message("b", "a", 0), message("c", "a", 0)])
    assert tied.counts.unused == {"tie: no response is better": 1}
    assert not tied.rejects


@pytest.mark.parametrize(
    "column",
    [
        "flagged",
        "passed",
        "negative",
        "weight",
        "response_b",
        "answer2",
        "choices",
        "A",
        "corrected",
        "reply",
        "prompt.1",
    ],
)
def test_columns_that_change_the_meaning_of_a_response_stop_a_stage(tmp_path: Path, column: str) -> None:
    found = read(tmp_path, [{"question": "q", "answer": "a", column: "x"}], ResponseRow)
    assert f"does not read {column}" in str(refusal(found, 0))


def test_names_of_models_are_not_learned_instead_of_responses(tmp_path: Path) -> None:
    record = {"prompt": "q", "chosen": "gpt", "rejected": "llama", "response_a": "x", "response_b": "y"}
    assert "does not read response_a" in str(refusal(read(tmp_path, [record], RankingRow), 0))


def test_turns_whose_loss_is_off_are_not_learned(tmp_path: Path) -> None:
    turns = [ASK, {"role": "assistant", "content": "bad", "loss": False}, ASK, {"role": "assistant", "content": "a"}]
    (row,) = read(tmp_path, [{"messages": turns}], ResponseRow).rows
    assert (row.response, [turn.learned for turn in row.prompt]) == ("a", [False, False, False])


def test_labels_on_a_scale_are_refused_and_single_strange_ones_are_bad(tmp_path: Path) -> None:
    def labels(*values: Any) -> list[dict[str, Any]]:
        return [{"prompt": "q", "completion": f"a{n}", "label": value} for n, value in enumerate(values)]

    with pytest.raises(PlauditError, match="label is 5 in the first records, so it is on a scale; write true or false"):
        read(tmp_path, labels(1, 5, 3, 1))
    found = read(tmp_path, labels(*[1, 0] * 20, 7))
    assert (len(found.rows), found.counts.bad) == (40, {"label is not true or false: 7": 1})


def test_preferences_from_0_to_1_are_refused_where_they_count_from_1(tmp_path: Path) -> None:
    def preferences(*values: Any) -> list[dict[str, Any]]:
        return [{"instruction": "q", "output_1": "a", "output_2": "b", "preference": value} for value in values]

    with pytest.raises(PlauditError, match="preference is 0 or 1 in all first records; write 1 or 2"):
        read(tmp_path, preferences(0, 1.0, 1))
    found = read(tmp_path, preferences(0, 1, 2, 1.5, 1.2))
    assert [row.ranks for row in found.rows] == [(0, 1), (1, 0), (0, 1)]


def test_messages_as_lists_of_roles_and_contents(tmp_path: Path) -> None:
    messages = [{"role": ["user", "assistant"], "content": ["q", "a"]}, {"role": ["user"], "content": ["q", "a"]}]
    found = read(tmp_path, [{"messages": value} for value in messages], ResponseRow)
    assert [(row.prompt[0].content, row.response) for row in found.rows] == [("q", "a")]
    assert found.counts.bad == {"messages is not a list of messages": 1}


def test_objects_as_text_in_cells_are_read(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "A pear."}
    record = {"messages": [ASK], "chosen": json.dumps(answer), "rejected": json.dumps(answer | {"content": "Ash."})}
    assert read(tmp_path, [record]).rows[0].responses == ("A pear.", "Ash.")
    question = json.dumps({"dataset": "d", "full_text": "Name a fruit."})
    scored = {"question": question, "answer_0": "x", "answer_1": "y", "score_0": "-1", "score_1": "1"}
    (row,) = read(tmp_path, [scored]).rows
    assert (row.prompt[0].content, row.ranks) == ("Name a fruit.", (1, 0))
