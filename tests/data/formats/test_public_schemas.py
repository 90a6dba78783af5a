"""Records in the published columns of data sets and tools, and the rows that must come out of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.loading import refusal
from plaudit.data.rows import LabeledRow, Message, PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.sources import SourceRows, read_source
from plaudit.errors import PlauditError

SYSTEM, ASKED = Message("system", "Be brief."), Message("user", "Name a fruit.")
ASK = {"role": "user", "content": "Name a fruit."}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(folder: Path, records: list[Any], kind: type[Row]) -> SourceRows[Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_source(SourceConfig(path=str(path)), kind)


PREFERENCES: dict[str, tuple[dict[str, Any], Any]] = {
    "RewardBench": (
        {"prompt": "Name a fruit.", "chosen": "A pear.", "chosen_model": "m", "rejected": "A stone."}
        | {"rejected_model": "n", "subset": "easy", "id": 1},
        "Name a fruit.",
    ),
    "UltraFeedback binarized": (
        {"prompt": "Name a fruit.", "prompt_id": "x", "chosen": [ASK, says("A pear.")]}
        | {"rejected": [ASK, says("A stone.")], "messages": [ASK, says("A pear.")]}
        | {"score_chosen": 8.0, "score_rejected": 2.0},
        (ASKED,),
    ),
    "Intel's pairs": (
        {"system": "Be brief.", "question": "Name a fruit.", "chosen": "A pear.", "rejected": "A stone."},
        (SYSTEM, ASKED),
    ),
    "Argilla's UltraFeedback": (
        {"source": "s", "instruction": "Name a fruit.", "chosen_response": "A pear.", "rejected_response": "A stone."}
        | {"chosen_avg_rating": 4.5, "rejected_avg_rating": 2, "chosen_model": "m"},
        (ASKED,),
    ),
    "Axolotl's icr": (
        {"system": "Be brief.", "input": "Name a fruit.", "chosen": "A pear.", "rejected": "A stone."},
        (SYSTEM, ASKED),
    ),
    "Axolotl's chat_template": (
        {"messages": [{"role": "system", "content": "Be brief."}, ASK], "chosen": says("A pear.")}
        | {"rejected": says("A stone.")},
        (SYSTEM, ASKED),
    ),
    "LLaMA-Factory's ranking": (
        {"instruction": "Name a", "input": "fruit.", "chosen": "A pear.", "rejected": "A stone."},
        (Message("user", "Name a\n\nfruit."),),
    ),
    "LLaMA-Factory's ShareGPT ranking": (
        {"conversations": [{"from": "human", "value": "Name a fruit."}], "chosen": {"from": "gpt", "value": "A pear."}}
        | {"rejected": {"from": "gpt", "value": "A stone."}},
        (ASKED,),
    ),
    "HelpSteer3's edits by quality": (
        {"domain": "general", "language": "english", "context": [{"role": "system", "content": "Be brief."}, ASK]}
        | {"original_response": "Fruit.", "good_edited_response": "A pear.", "bad_edited_response": "A stone."}
        | {"feedback": ["name one"]},
        (SYSTEM, ASKED),
    ),
    "HelpSteer3's edit": (
        {"domain": "general", "language": "english", "context": [{"role": "system", "content": "Be brief."}, ASK]}
        | {"original_response": "A stone.", "edited_response": "A pear.", "feedback": ["a"], "change_summary": "b"},
        (SYSTEM, ASKED),
    ),
    "HelpSteer3's feedback": (
        {"domain": "general", "language": "english", "context": [{"role": "system", "content": "Be brief."}, ASK]}
        | {"response1": "A pear.", "response2": "A stone."}
        | {"feedback1": ["The response is perfectly helpful."], "feedback2": ["The response is not helpful."]},
        (SYSTEM, ASKED),
    ),
    "Label Studio's Ranker": (
        {
            "id": 1,
            "data": {"prompt": "Name a fruit.", "items": [{"id": 1, "body": "A pear."}, {"id": 2, "body": "A stone."}]},
        }
        | {
            "annotations": [
                {"id": 1, "result": [{"type": "ranker", "from_name": "r", "value": {"ranker": {"r": [1, 2]}}}]}
            ]
        }
        | {"predictions": [], "inner_id": 1, "project": 1},
        "Name a fruit.",
    ),
    "a copy of the chosen response": (
        {"prompt": "Name a fruit.", "response": "A pear.", "chosen": "A pear.", "rejected": "A stone."},
        "Name a fruit.",
    ),
    "Stack Exchange's answers": (
        {"qid": 1, "question": "Name a fruit.", "date": "d", "metadata": ["m"]}
        | {
            "answers": [
                {"pm_score": n, "selected": n > 2, "text": text} for n, text in ((3, "A pear."), (0, "A stone."))
            ]
        },
        (ASKED,),
    ),
    "Nectar": (
        {"prompt": "Name a fruit.", "turns": 1, "num_responses": 2, "source": ["s"], "good_natured": True}
        | {"answers": [{"answer": "A pear.", "model": "m", "rank": 1.0}, {"answer": "A stone.", "rank": 2.0}]},
        "Name a fruit.",
    ),
    "Label Studio's full export": (
        {"id": 1, "data": {"prompt": "Name a fruit.", "answer1": "A pear.", "answer2": "A stone."}, "meta": {}}
        | {"annotations": [{"id": 1, "result": [{"type": "pairwise", "value": {"selected": "left"}}]}]}
        | {"drafts": [], "predictions": [], "total_annotations": 1, "cancelled_annotations": 0, "total_predictions": 0}
        | {"comment_count": 0, "unresolved_comment_count": 0, "inner_id": 1, "project": 1, "updated_by": 1},
        "Name a fruit.",
    ),
    "Stack Exchange pairs": (
        {"qid": 1, "question": "Name a fruit.", "date": "d", "response_j": "A pear.", "response_k": "A stone."},
        (ASKED,),
    ),
}


def ranker_task(*orders: Any, items: Any = None, **more: Any) -> dict[str, Any]:
    """A task of Label Studio in which annotators sorted the items of a list."""
    items = items or [{"id": f"m{n}", "title": f"{n}", "body": text} for n, text in enumerate(("A pear.", "A stone."))]
    results = [
        {"type": "ranker", "from_name": "rank", "to_name": "list", "value": {"ranker": order}} for order in orders
    ]
    annotations = [{"id": n, "was_cancelled": False, "result": [result]} for n, result in enumerate(results)]
    return {"id": 1, "data": {"prompt": "Name a fruit.", "items": items}, "annotations": annotations, **more}


def test_the_orders_of_a_ranker_are_averaged(tmp_path: Path) -> None:
    items = [{"id": number, "body": text} for number, text in enumerate(("A stone.", "A pear.", "Ash.", "A fig."))]
    orders = ({"rank": [1, 3, 0, 2]}, {"rank": [3, 1, 0, 2]}, ["3", "1", "2", "0"])
    skipped = {"id": 9, "was_cancelled": True, "result": []}
    record = ranker_task(*orders, items=items)
    record["annotations"].append(skipped)
    found = read(tmp_path, [record, ranker_task()], RankingRow)
    assert found.rows[0].responses == ("A stone.", "A pear.", "Ash.", "A fig.")
    assert found.rows[0].ranks == (2, 1, 3, 0)  # sums 7, 2, 8, 1
    assert found.counts.unused == {"task without an annotation": 1}
    tied = read(tmp_path, [ranker_task(["m0", "m1"], ["m1", "m0"])], RankingRow)
    assert tied.counts.unused == {"tie: no response is better": 1}


@pytest.mark.parametrize(
    "record, reason",
    [
        (ranker_task({"_": ["m0"], "good": ["m1"]}), "items are sorted into buckets, which have no order"),
        (ranker_task({"relevant": ["m1", "m0"]}), "items are sorted into buckets, which have no order"),
        (ranker_task({"_": ["m0", "m1"]}), "items are sorted into buckets, which have no order"),
        (ranker_task(["m0"]), "an order does not name the id of every item of one list"),
        (ranker_task(["m0", "m2"]), "an order does not name the id of every item of one list"),
        (ranker_task(["m0", "m0"]), "an order does not name the id of every item of one list"),
        (ranker_task(["m0", "m1"], ["m0"]), "an order does not name the id of every item of one list"),
        (ranker_task([]), "an annotation does not hold one order of the responses"),
        (ranker_task("m0"), "an annotation does not hold one order of the responses"),
        (ranker_task(["a", "b"], items=[{"id": "a", "title": "A"}, {"id": "b", "body": "B"}]), "response is missing"),
    ],
)
def test_rankers_without_an_order_are_bad(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    (found,) = read(tmp_path, [record], RankingRow).counts.bad
    assert found.startswith(reason)


def graded(first: list[str], second: list[str]) -> dict[str, Any]:
    record = {"context": [ASK], "response1": "A pear.", "response2": "A stone."}
    return record | {f"feedback{n}": [f"The response is {grade}." for grade in g] for n, g in ((1, first), (2, second))}


def test_the_mean_grade_of_feedback_decides(tmp_path: Path) -> None:
    """2.5 is more than 2.33; a text that does not begin with a grade is left out, and counted."""
    records = [
        graded(["mostly helpful", "partially helpful"], ["mostly helpful", "mostly helpful", "slightly helpful"]),
        graded(["slightly helpful", "well made"], ["partially helpful, as it is brief"]),
        graded(["not helpful", "partially helpful"], ["slightly helpful"]),
        graded(["helpful"], ["mostly helpful"]),
    ]
    found = read(tmp_path, records, RankingRow)
    assert [row.ranks for row in found.rows] == [(0, 1), (1, 0)]
    assert found.counts.unused == {"feedback without a grade": 1, "tie: no response is better": 1}
    assert found.counts.bad == {"feedback1 holds no text that begins with The response is … helpful": 1}


def test_ultrachat_without_an_answer_at_the_end(tmp_path: Path) -> None:
    turns = ["Name a fruit.", "A pear.", "And a nut?", "An almond."]
    records = [{"id": "0", "data": turns}, {"id": "1", "data": json.dumps(turns)}, {"id": "2", "data": turns[:3]}]
    found = read(tmp_path, records, ResponseRow)
    assert [row.response for row in found.rows] == ["An almond.", "An almond.", "A pear."]
    assert [len(row.prompt) for row in found.rows] == [3, 3, 1]
    assert found.counts.unused == {"user's turn after the last answer to learn": 1}


def test_lima_lists_texts_under_conversations(tmp_path: Path) -> None:
    record = {"conversations": ["Name a fruit.", "A pear."], "source": "stackexchange"}
    found = read(tmp_path, [record], ResponseRow)
    assert refusal(found, 0) is None
    assert [(row.prompt, row.response) for row in found.rows] == [((Message("user", "Name a fruit."),), "A pear.")]


@pytest.mark.parametrize(
    "record",
    [
        {"data": ["a", "b"]},
        {"id": 1, "data": ["a", "b", "c"]},
        {"id": 1, "data": ["a", 2]},
        {"id": 1, "data": []},
        {"id": 1, "data": "a"},
    ],
)
def test_lists_that_may_be_something_else_are_not_taken_for_ultrachat(tmp_path: Path, record: dict[str, Any]) -> None:
    with pytest.raises(PlauditError, match="no row format has the columns"):
        read(tmp_path, [record], ResponseRow)


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences(tmp_path: Path, name: str) -> None:
    record, prompt = PREFERENCES[name]
    found = read(tmp_path, [record], RankingRow)
    assert refusal(found, 0) is None
    assert [(row.prompt, row.responses, row.ranks) for row in found.rows] == [(prompt, ("A pear.", "A stone."), (0, 1))]


def test_reward_bench_2_has_lists_of_responses(tmp_path: Path) -> None:
    record = {"id": "1", "prompt": "Name a fruit.", "chosen": ["A pear.", "A fig."], "rejected": ["A stone.", "Ash."]}
    more = {"num_correct": 2, "num_incorrect": 2, "total_completions": 4, "models": ["m"], "subset": "Ties"}
    found = read(tmp_path, [record | more], RankingRow)
    assert refusal(found, 0) is None
    assert (found.rows[0].responses, found.rows[0].ranks) == (("A pear.", "A fig.", "A stone.", "Ash."), (0, 0, 1, 1))


def test_scores_that_contradict_the_sides_are_bad_unless_ignored(tmp_path: Path) -> None:
    record = {"prompt": "q", "chosen": " a", "rejected": " b", "score_chosen": 2, "score_rejected": 3}
    assert list(read(tmp_path, [record], RankingRow).counts.bad) == [
        "score_rejected is higher than score_chosen; to trust the sides, ignore both columns"
    ]
    trusting = SourceConfig(path=str(tmp_path / "rows.jsonl"), ignore_columns=["score_chosen", "score_rejected"])
    assert read_source(trusting, RankingRow).rows[0].ranks == (0, 1)


@pytest.mark.parametrize(
    "record",
    [
        {"completion": [ASK, says("A stone.")], "label": False},
        {"instruction": "Name a fruit.", "input": "", "output": "A stone.", "kto_tag": False},
        {"messages": [ASK, says("A stone.")], "label": False},
        {
            "conversations": [{"from": "human", "value": "Name a fruit."}, {"from": "gpt", "value": "A stone."}],
            "label": 0,
        },
        {"instruction": "Name a fruit.", "completion": "A stone.", "label": "0.0"},
        {"question": "Name a fruit.", "completion": "A stone.", "label": -1},
    ],
)
def test_labeled_samples_of_axolotl_and_llama_factory(tmp_path: Path, record: dict[str, Any]) -> None:
    (row,) = read(tmp_path, [record], LabeledRow).rows
    assert (row.prompt, row.responses, row.desirable) == ((ASKED,), ("A stone.",), (False,))
    learned = read(tmp_path, [record], ResponseRow)
    assert (learned.rows, learned.counts.unused) == ([], {"undesirable response": 1})


@pytest.mark.parametrize(
    "record, before",
    [
        ({"query": "Name a fruit.", "response": "A pear.", "system": "Be brief.", "history": []}, (SYSTEM,)),
        ({"system_prompt": "Be brief.", "question": "Name a fruit.", "response": "A pear."}, (SYSTEM,)),
        ({"question": "Name a fruit.", "category": "food", "answer": "A pear."}, ()),
        ({"input": "Name a fruit.", "output": "A pear."}, ()),
        ({"question": "Name a fruit.", "generation": "A pear."}, ()),
        ({"instruction": "Name a fruit.", "input": "", "response": "A pear."}, ()),
        ({"instruction": "Name a fruit.", "context": "", "response": "A pear.", "category": "c"}, ()),
        ({"conversation": [{"input": "Name a fruit.", "output": "A pear."}], "source": "s"}, ()),
        ({"prompt": "Name a fruit.", "prompt_id": "1", "messages": [ASK, says("A pear.")], "category": "c"}, ()),
    ],
)
def test_single_responses(tmp_path: Path, record: dict[str, Any], before: tuple[Message, ...]) -> None:
    found = read(tmp_path, [record], ResponseRow)
    assert refusal(found, 0) is None
    assert [(row.prompt, row.response) for row in found.rows] == [((*before, ASKED), "A pear.")]


def test_segments_are_learned_by_their_label(tmp_path: Path) -> None:
    def segments(*given: tuple[str, Any]) -> dict[str, Any]:
        return {"segments": [{"text": text, "label": label} for text, label in given]}

    found = read(
        tmp_path,
        [
            segments(("Q", False), (":", 0), (" a", True), ("b", "true"), ("\n", False)),
            segments(("Q", False), ("a", True), ("R", False), ("", True), ("b", True), ("S", False)),
            segments(("Q", False)),
            segments(("a", True), ("Q", False)),
            segments(("Q", False), ("a", "perhaps")),
            {"segments": json.dumps([{"text": "Q", "label": False}, {"text": "a", "label": True}])},
            {"segments": [{"text": "Q"}]},
        ],
        ResponseRow,
    )
    assert [(row.prompt, row.response, row.parts) for row in found.rows] == [
        ("Q:", " ab", None),
        ("Q", "aRb", (("a", True), ("R", False), ("b", True))),
        ("Q", "a", None),
    ]
    assert found.counts.unused == {"text after the last segment to learn": 1, "segments without one to learn": 1}
    assert found.counts.bad == {
        "no text before the first segment to learn": 1,
        "label is not true or false: perhaps": 1,
        "segments is not a list of objects with text and label": 1,
    }
    prompts = read(tmp_path, [segments(("Q", False), ("a", True))], PromptRow)
    assert [row.prompt for row in prompts.rows] == ["Q"]


def test_several_turns_are_learned_with_masks_and_the_rest_is_counted(tmp_path: Path) -> None:
    turns = [ASK, says("A pear.") | {"weight": 0}, ASK, says("A fig."), ASK, says("A plum."), ASK]
    found = read(tmp_path, [{"messages": turns}], ResponseRow)
    (row,) = found.rows
    assert row.response == "A plum."
    assert [message.learned for message in row.prompt] == [False, False, False, True, False]
    assert found.counts.unused == {"user's turn after the last answer to learn": 1}
    silent = read(tmp_path, [{"messages": [ASK, says("A pear.") | {"weight": 0}]}], ResponseRow)
    assert (silent.rows, silent.counts.unused) == ([], {"dialogue without a turn to learn": 1})


def test_a_final_call_of_a_function_is_kept_as_a_turn(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (row,) = read(tmp_path, [{"messages": turns, "tools": [{"name": "f"}]}], ResponseRow).rows
    assert row.final.tool_calls[0].name == "f"
    assert json.loads(row.response) == {"name": "f", "arguments": {}}
    judged = read(tmp_path, [{"messages": turns, "label": True}], LabeledRow)
    assert list(judged.counts.bad) == ["a judged response calls functions, which only SFT can learn"]


def test_mt_bench_judges_the_turn_that_it_names(tmp_path: Path) -> None:
    sides = {f"conversation_{side}": [ASK, says(side), ASK, says(side * 2)] for side in "ab"}
    base = {"question_id": 81, "model_a": "m", "model_b": "n", "judge": "j", **sides}
    judged = [("model_b", 1), ("tie", 1), ("model_a", 2), ("model_a", 3)]
    found = read(tmp_path, [base | {"winner": winner, "turn": turn} for winner, turn in judged], RankingRow)
    assert [(row.prompt, row.responses, row.ranks) for row in found.rows] == [((ASKED,), ("a", "b"), (1, 0))]
    assert found.counts.unused == {
        "tie: no response is better": 1,
        "the responses follow different earlier turns": 1,
    }
    assert found.counts.bad == {"conversation_a has no turn 3": 1}


def test_helpsteer_ranks_successive_lines_of_one_prompt(tmp_path: Path) -> None:
    rated = [("p", "a", 1), ("p", "b", 3), ("p", "c", 3), ("q", "d", 4), ("p", "e", 0), ("p", "f", 0)]
    records = [{"prompt": prompt, "response": text, "helpfulness": score} for prompt, text, score in rated]
    found = read(tmp_path, records, RankingRow)
    assert [(row.responses, row.ranks, row.origin.line) for row in found.rows] == [(("a", "b", "c"), (1, 0, 0), 1)]
    assert found.counts.unused == {"prompt with a single rated response": 1, "tie: no response is better": 1}
    assert [row.prompt for row in read(tmp_path, records, PromptRow).rows] == ["p", "q", "p"]


def test_annotations_of_several_people(tmp_path: Path) -> None:
    task = {"id": 1, "data": {"prompt": "q", "answer1": "a", "answer2": "b"}}

    def annotated(*sides: str) -> dict[str, Any]:
        results = [{"type": "pairwise", "value": {"selected": side}} for side in sides]
        return {**task, "annotations": [{"id": number, "result": [each]} for number, each in enumerate(results)]}

    found = read(tmp_path, [annotated("right", "left", "right"), annotated("left", "right"), annotated()], RankingRow)
    assert [row.ranks for row in found.rows] == [(1, 0)]
    assert found.counts.unused == {"tie: no response is better": 1, "task without an annotation": 1}
    fields = {"prompt": "q", "response1": "a", "response2": "b", "response3": "c"}
    order = [["response2", "response1", "response3"], ["response2", "response3", "response1"]]
    ranked = [{"value": value, "user_id": str(number)} for number, value in enumerate(order)]
    (row,) = read(tmp_path, [{"fields": fields, "responses": {"order": ranked}}], RankingRow).rows
    assert dict(zip(row.responses, row.ranks, strict=True)) == {"a": 1, "b": 0, "c": 1}


@pytest.mark.parametrize(
    "shown, left", [("answer1,answer2", 0), ("answer2,answer1", 1), ("text2, text1", 1), ("one,other", 0), (None, 0)]
)
def test_the_left_side_is_the_text_that_was_shown_there(tmp_path: Path, shown: str | None, left: int) -> None:
    def task(selected: str) -> dict[str, Any]:
        result = {"type": "pairwise", "to_name": shown, "value": {"selected": selected}}
        data = {"prompt": "q", "answer1": "a", "answer2": "b"}
        return {"id": 1, "data": data, "annotations": [{"id": 1, "result": [result]}]}

    found = read(tmp_path, [task("left"), task("right")], RankingRow)
    assert [row.ranks.index(0) for row in found.rows] == [left, 1 - left]


@pytest.mark.parametrize("value", [[{"rank": 2, "value": "response1"}, {"rank": 1, "value": "response2"}], "response2"])
def test_a_table_of_argilla_counts_submitted_answers(tmp_path: Path, value: Any) -> None:
    answers = [{"user_id": "u", "value": value, "status": "submitted"}]
    answers.append({"user_id": "v", "value": None, "status": "discarded"})
    record = {"prompt": "q", "response1": "x", "response2": "y", "preference": answers, "preference-suggestion": None}
    found = read(tmp_path, [record, record | {"preference": answers[1:]}], RankingRow)
    assert (found.counts.format, [row.ranks for row in found.rows]) == ("argilla_feedback", [(1, 0)])
    assert found.counts.unused == {"record without a submitted answer": 1}


@pytest.mark.parametrize(
    "values, ranks",
    [
        ([0, 1], [(0, 1), (1, 0)]),
        ([1, 2], [(0, 1), (1, 0)]),
        (["B", "A"], [(1, 0), (0, 1)]),
        (["response_b", "left"], [(1, 0), (0, 1)]),
    ],
)
def test_winners_are_never_inverted(tmp_path: Path, values: list[Any], ranks: list[tuple[int, int]]) -> None:
    records = [{"prompt": "q", "response_a": "x", "response_b": "y", "winner": value} for value in values]
    assert [row.ranks for row in read(tmp_path, records, RankingRow).rows] == ranks


@pytest.mark.parametrize(
    "record, ranks",
    [
        ({"left": "x", "right": "y", "winner": "right"}, (1, 0)),
        ({"model_a_response": "x", "model_b_response": "y", "winner": "model_a"}, (0, 1)),
        ({"response_0": "x", "response_1": "y", "chosen": 1}, (1, 0)),
        ({"Response A": "x", "Response B": "y", "preference": "B"}, (1, 0)),
        ({"response_1": "x", "response_2": "y", "annotator_1": 2, "annotator_2": 1, "annotator_3": 2.0}, (1, 0)),
        ({"output_a": "x", "output_b": "y", "rating_a": "4", "rating_b": 2.5}, (0, 1)),
        ({"answer1": "x", "answer2": "y", "votes": {"ann": "answer2", "ben": "answer2", "cy": "answer1"}}, (1, 0)),
    ],
)
def test_names_of_two_responses_and_their_judgement(
    tmp_path: Path, record: dict[str, Any], ranks: tuple[int, int]
) -> None:
    found = read(tmp_path, [{"prompt": "q", **record}], RankingRow)
    assert refusal(found, 0) is None
    assert [(row.responses, row.ranks) for row in found.rows] == [(("x", "y"), ranks)]


def test_three_responses_are_no_comparison_of_two(tmp_path: Path) -> None:
    record = {"prompt": "q", "response_1": "x", "response_2": "y", "response_3": "z", "best": 2}
    with pytest.raises(PlauditError, match="ranking rows are needed"):
        read(tmp_path, [record], RankingRow)


def test_a_rejected_response_beside_the_one_to_learn(tmp_path: Path) -> None:
    found = read(tmp_path, [{"query": "q", "response": "x", "rejected_response": "y"}], RankingRow)
    assert [(row.responses, row.ranks) for row in found.rows] == [(("x", "y"), (0, 1))]


def test_messages_as_data_frames_print_them_are_bad(tmp_path: Path) -> None:
    printed = "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant', 'content': 'a'}]"
    found = read(tmp_path, [{"chosen": printed, "rejected": printed.replace("'a'", "'b'")}], RankingRow)
    assert found.rows == []
    assert list(found.counts.bad) == ["chosen is the text of a list of messages that is neither JSON nor Python"]


def test_the_better_response_is_said_in_words_and_its_place_is_watched(tmp_path: Path) -> None:
    def rows(winners: str) -> list[dict[str, Any]]:
        return [{"prompt": f"q{i}", "response_a": "x", "response_b": "y", "winner": w} for i, w in enumerate(winners)]

    found = read(tmp_path, rows("abba"), RankingRow)
    assert found.counts.verdicts[1] == (
        'line 2: response 2 of 2 ("y") is taken as better than response 1 ("x"); winner is b'
    )
    assert (len(found.counts.verdicts), found.counts.warnings) == (3, [])
    # Five equal winners are less likely than 1 in 20 by chance, four are not.
    assert read(tmp_path, rows("aaaa"), RankingRow).counts.warnings == []
    assert "in all 5 rows" in read(tmp_path, rows("aaaaa"), RankingRow).counts.warnings[0]
    assert "in none of 5 rows" in read(tmp_path, rows("bbbbb"), RankingRow).counts.warnings[0]
    chosen = [{"prompt": f"q{number}", "chosen": "x", "rejected": "y"} for number in range(9)]
    assert read(tmp_path, chosen, RankingRow).counts.warnings == []


def test_responses_without_a_label_are_counted(tmp_path: Path) -> None:
    record = {"prompt": "q", "responses": ["a", "b", "c"], "ranks": ["2.0", "0.0", 1.0]}
    found = read(tmp_path, [record], LabeledRow)
    assert (found.rows[0].responses, found.rows[0].desirable) == (("a", "b"), (False, True))
    assert found.counts.unused == {"response with as many better as worse ones, which gets no label": 1}


@pytest.mark.parametrize("value", ["nan", "NaN", "None", "null", "<NA>"])
def test_texts_for_missing_values_are_bad(tmp_path: Path, value: str) -> None:
    found = read(tmp_path, [{"prompt": "q", "chosen": "a", "rejected": value}], RankingRow)
    assert found.counts.bad == {f"response is the text {value}, which stands for a missing value": 1}
