"""Every format: recognized by its columns, turned into the rows worked out here by hand, refused with a reason."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expected_rows import AT, FRUIT, OWN_ROWS, RED_FRUIT, REPLY, USER
from format_examples import EXAMPLES, MESSAGE_TABLE, MESSAGES, TREE
from plaudit.config.schema import SourceConfig
from plaudit.data.formats import openai
from plaudit.data.formats.base import BadRowError, Kind, Unused
from plaudit.data.formats.plain import first_sentence, opening
from plaudit.data.formats.recognition import recognize
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.sources import SourceRows, read_source
from plaudit.errors import PlauditError


def _read(
    folder: Path, records: list[dict[str, Any]], kind: Kind | None = None, name: str = "auto", **options: Any
) -> SourceRows[Row]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_source(SourceConfig(path=str(path), format=name, **options), kind)


def asked(name: str) -> str:
    """Return the name of a format that is read only on request, and else "auto"."""
    return name if FORMATS[name].on_request else "auto"


def _placed(row: Row) -> Row:
    return type(row)(**{**vars(row), "origin": AT})


def _rows(read: SourceRows[Any]) -> list[Row]:
    return [_placed(row) for row in read.rows]


def test_every_format_has_an_example() -> None:
    assert set(EXAMPLES) == set(OWN_ROWS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_the_own_kind(tmp_path: Path, name: str) -> None:
    read = _read(tmp_path, EXAMPLES[name], name=asked(name))
    assert read.row_format.name == name
    assert _rows(read) == OWN_ROWS[name]
    assert not read.rejects


@pytest.mark.parametrize("name, kind", [(name, kind) for name in FORMATS for kind in FORMATS[name].kinds])
def test_every_declared_kind_is_produced(tmp_path: Path, name: str, kind: Kind) -> None:
    rows = _read(tmp_path, EXAMPLES[name], kind, asked(name)).rows
    assert rows
    assert {type(row) for row in rows} == {kind}


def test_a_ranking_serves_as_its_best_response_and_as_its_prompt(tmp_path: Path) -> None:
    assert _rows(_read(tmp_path, [TREE], ResponseRow)) == [
        ResponseRow(FRUIT, "A pear, fresh and ripe.", AT),
        ResponseRow(RED_FRUIT, "A plum.", AT),
    ]
    assert _rows(_read(tmp_path, [TREE], PromptRow)) == [PromptRow(FRUIT, AT), PromptRow(RED_FRUIT, AT)]
    kept = [{**EXAMPLES["preference"][0], "topic": "sky"}]
    assert _rows(_read(tmp_path, kept, PromptRow)) == [PromptRow("The sky is", AT, {"topic": "sky"})]


def test_a_ranking_serves_as_labels(tmp_path: Path) -> None:
    """A response with more wins than losses is desirable; the fourth of seven has equal numbers and is left out."""
    ranks = {"a": 0, "b": 0, "c": 1, "d": 2, "e": 3, "f": 3, "g": 3}
    record = {"prompt": "p", "responses": list(ranks), "ranks": list(ranks.values())}
    # c beats 4 and loses to 2; d beats 3 and loses to 3.
    expected = LabeledRow("p", tuple("abcefg"), (True, True, True, False, False, False), AT)
    assert _rows(_read(tmp_path, [record], LabeledRow)) == [expected]
    pair = _read(tmp_path, EXAMPLES["preference"], LabeledRow)
    assert _rows(pair) == [LabeledRow("The sky is", (" blue.", " green."), (True, False), AT)]


def test_labeled_rows_of_messages_and_of_text_in_other_types(tmp_path: Path) -> None:
    messages = [{"prompt": MESSAGES[:1], "completion": MESSAGES[1:], "label": False}]
    read = _read(tmp_path, messages)
    assert (read.row_format.name, _rows(read)) == (
        "unpaired_preference",
        [LabeledRow((USER,), (REPLY,), (False,), AT)],
    )
    for value, label in ((1, True), (0, False), ("True", True), ("false", False)):
        read = _read(tmp_path, [{"prompt": "p", "completion": " c", "label": value}])
        assert _rows(read) == [LabeledRow("p", (" c",), (label,), AT)]
    read = _read(tmp_path, [{"prompt": "p", "completion": " c", "label": "sky"}])
    assert (read.row_format.name, read.counts.bad) == ("unpaired_preference", {"label is not true or false: sky": 1})


def test_undesirable_responses_are_not_learned(tmp_path: Path) -> None:
    read = _read(tmp_path, EXAMPLES["unpaired_preference"], ResponseRow)
    assert _rows(read) == [ResponseRow("The sky is", " blue.", AT)]
    assert read.counts.unused == {"undesirable response": 1}
    prompts = _read(tmp_path, [{**EXAMPLES["unpaired_preference"][1], "topic": "sky"}], PromptRow)
    assert _rows(prompts) == [PromptRow("The sky is", AT, {"topic": "sky"})]


def test_a_kind_that_the_format_does_not_support_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PlauditError,
        match=r"rows.jsonl.*format prompt.*ranking rows.*preference has prompt, chosen in common and needs rej",
    ):
        _read(tmp_path, [{"prompt": "p", "chosen": "c", "worse": "w"}], RankingRow)


def test_parts_that_give_no_row_are_counted(tmp_path: Path) -> None:
    counts = _read(tmp_path, [TREE]).counts
    assert counts.unused == {"reply without text or rank": 1, "deleted message, with all below it": 1}
    lonely = copy.deepcopy(TREE)
    lonely["prompt"]["replies"][0]["deleted"] = True
    counts = _read(tmp_path, [TREE, lonely]).counts
    assert counts.unused == {
        "reply without text or rank": 1,
        "deleted message, with all below it": 2,
        "prompt with fewer than two ranked replies": 1,
    }


def test_a_table_of_messages_gives_the_rows_of_its_trees_in_any_order(tmp_path: Path) -> None:
    second = [
        {**message, "message_tree_id": "z", "message_id": message["message_id"] * 2, "text": message["text"].upper()}
        | {"parent_id": message["parent_id"] and message["parent_id"] * 2}
        for message in MESSAGE_TABLE
    ]
    mixed = [message for pair in zip(MESSAGE_TABLE, second, strict=True) for message in pair]
    read = _read(tmp_path, mixed)
    whole = OWN_ROWS["open_assistant_messages"]
    loud = tuple(Message(message.role, message.content.upper()) for message in RED_FRUIT)
    assert _rows(read)[:2] == whole
    assert _rows(read)[3] == RankingRow(loud, ("A CHERRY.", "A PLUM."), (1, 0), AT)
    assert [row.origin.line for row in read.rows] == [1, 1, 2, 2]
    assert (read.counts.records, read.counts.rows) == (2, 4)
    backwards = _read(tmp_path, MESSAGE_TABLE[::-1])
    assert [(row.prompt, dict(zip(row.responses, row.ranks, strict=True))) for row in _rankings(backwards)] == [
        (row.prompt, dict(zip(row.responses, row.ranks, strict=True))) for row in whole if isinstance(row, RankingRow)
    ]


def _rankings(read: SourceRows[Any]) -> list[RankingRow]:
    return [row for row in read.rows if isinstance(row, RankingRow)]


def test_messages_without_their_place_in_a_tree_are_counted(tmp_path: Path) -> None:
    # Without "b", the message "d" has no parent, and nothing below it is reached.
    orphaned = [message for message in MESSAGE_TABLE if message["message_id"] != "b"]
    counts = _read(tmp_path, orphaned, RankingRow).counts
    assert counts.unused == {
        "message without its parent (dropped with all replies below it)": 1,
        "prompt with fewer than two ranked replies": 1,
    }
    rootless = _read(
        tmp_path, [*MESSAGE_TABLE, *({**message, "message_tree_id": "z"} for message in MESSAGE_TABLE[1:])]
    )
    assert rootless.counts.bad == {"there must be exactly one message without parent_id": 1}
    twice = _read(tmp_path, [*MESSAGE_TABLE, *({**MESSAGE_TABLE[0], "message_tree_id": "z"} for _ in range(2))])
    assert twice.counts.bad == {"a message has no unique message_id": 1}


def test_the_first_sentence_of_a_text_serves_as_a_prompt(tmp_path: Path) -> None:
    read = _read(tmp_path, [{"text": "Lily had 2.5 apples. She ate one.", "topic": "fruit"}], PromptRow, "text")
    assert _rows(read) == [PromptRow("Lily had 2.5 apples.", AT, {"topic": "fruit"})]
    for text, sentence in (
        ('"Run!" said Tom. He ran.', '"Run!"'),
        ("Why? Because.", "Why?"),
        (" No end of a sentence ", "No end of a sentence"),
    ):
        assert first_sentence(text) == sentence


def test_conversational_forms(tmp_path: Path) -> None:
    ask, yes, no = MESSAGES[:1], MESSAGES[1:], [{"role": "assistant", "content": "No."}]
    expected = [RankingRow((USER,), (REPLY, "No."), (0, 1), AT)]
    assert _rows(_read(tmp_path, [{"prompt": ask, "chosen": yes, "rejected": no}])) == expected
    assert _rows(_read(tmp_path, [{"chosen": ask + yes, "rejected": ask + no}])) == expected
    # Sides that are whole dialogues, with a separate prompt as well, as in UltraFeedback.
    whole = {"prompt": USER.content, "chosen": ask + yes, "rejected": ask + no, "messages": ask + yes}
    assert _rows(_read(tmp_path, [whole])) == expected
    assert _rows(_read(tmp_path, [{"prompt": USER.content, "chosen": yes, "rejected": no}])) == expected
    assert _rows(_read(tmp_path, [{"prompt": ask, "completion": yes}])) == [ResponseRow((USER,), REPLY, AT)]
    assert _rows(_read(tmp_path, [{"messages": ask}], PromptRow)) == [PromptRow((USER,), AT)]


@pytest.mark.parametrize(
    "name, record, prompt, own",
    [
        ("prompt", {"prompt": "The sky is"}, "The sky is", {}),
        ("text", {"text": "The sky is blue. Is it?"}, "The sky is blue.", {}),
        ("messages", {"messages": MESSAGES[:1]}, (USER,), {}),
        ("messages", {"messages": MESSAGES}, (USER,), {}),
        ("imdb", {"text": "So", "label": 0}, "So", {"label": 0}),
    ],
)
def test_prompts_keep_the_columns_that_their_format_does_not_read(
    tmp_path: Path, name: str, record: dict[str, Any], prompt: Any, own: dict[str, Any]
) -> None:
    read = _read(tmp_path, [{**record, "answer": 42, "chapter": "two"}], PromptRow, name)
    assert _rows(read) == [PromptRow(prompt, AT, {"answer": 42, "chapter": "two", **own})]


@pytest.mark.parametrize(
    "chosen, rejected, prompt",
    [
        ("I like cats", "I like cars", "I like"),
        ("What now? Run", "What now? Rest", "What now?"),
        ("Q: a?\nYes", "Q: a?\nNo", "Q: a?"),
        ("Go:left", "Go:right", "Go:"),
    ],
)
def test_the_common_prefix_never_cuts_a_word(tmp_path: Path, chosen: str, rejected: str, prompt: str) -> None:
    (row,) = _read(tmp_path, [{"chosen": chosen, "rejected": rejected}]).rows
    assert isinstance(row, RankingRow)
    assert row.prompt == prompt
    assert [prompt + response for response in row.responses] == [chosen, rejected]


def test_rank_gaps_are_closed_and_scores_become_ranks(tmp_path: Path) -> None:
    base = {"prompt": "p", "responses": ["a", "b", "c"]}
    for extra in ({"ranks": [7, 2, 2]}, {"scores": [0.1, 0.5, 0.5]}):
        (row,) = _read(tmp_path, [{**base, **extra}]).rows
        assert isinstance(row, RankingRow)
        assert row.ranks == (1, 0, 0)


def test_token_lists_are_decoded_without_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    record = {"query": [1, 2, 50259], "sample0": [3], "sample1": [4, 5, 50259, 50259], "best": 1}
    path.write_text(json.dumps([record]))
    monkeypatch.setattr(openai, "gpt2_decoder", lambda: lambda ids: " ".join(f"w{token}" for token in ids))
    read = read_source(SourceConfig(path=str(path)), RankingRow)
    assert _rows(read) == [RankingRow("w1 w2", ("w3", "w4 w5"), (1, 0), AT)]


def test_dialogues_are_gathered_from_a_csv_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.csv"
    path.write_text(
        "text,TARGET,dialogue_id,turn_id,type,source\n"
        "second answer,X,1,3,CN,s\nlone claim,X,2,0,HS,s\nclaim,X,1,0,HS,s\nanswer,X,1,1,CN,s\nmore,X,1,2,HS,s\n"
    )
    read = read_source(SourceConfig(path=str(path)), ResponseRow)
    claim, answer, more = Message("user", "claim"), Message("assistant", "answer"), Message("user", "more")
    origin = Origin(str(path), 2)
    assert read.rows == [
        ResponseRow((claim,), "answer", origin),
        ResponseRow((claim, answer, more), "second answer", origin),
    ]
    assert read.counts.unused == {"dialogue without a counter-narrative": 1}
    assert read.counts.records == 2


def test_openings_have_two_to_eight_words_and_depend_only_on_the_text() -> None:
    words = [f"word{number}" for number in range(20)]
    lengths = set()
    for start in range(12):
        text = " ".join(words[start:])
        assert text.startswith(opening(text))
        assert opening(text) == opening(text)
        lengths.add(len(opening(text).split()))
    assert lengths <= set(range(2, 9))
    assert len(lengths) > 3
    assert opening("one") == "one"


def _changed(name: str, **changes: Any) -> dict[str, Any]:
    return {**EXAMPLES[name][0], **changes}


HH_YES, HH_ASK = "\n\nHuman: a\n\nAssistant: yes", "\n\nHuman: a\n\nAssistant:"


@pytest.mark.parametrize(
    "name, record, reason",
    [
        ("text", {"text": "  "}, "empty text"),
        ("text", {"text": 5}, "text is not a string"),
        ("text", {"other": "x"}, "text is missing"),
        ("prompt", {"prompt": None}, "prompt is missing"),
        ("prompt", {"prompt": []}, "prompt is not a list of messages"),
        ("prompt", {"prompt": [{"role": "user", "content": " "}]}, "empty prompt"),
        ("prompt_response", _changed("prompt_response", response=""), "empty response"),
        ("imdb", {"text": "x"}, "label is missing"),
        ("preference", _changed("preference", rejected=" blue."), "identical responses"),
        ("preference", _changed("preference", rejected=" "), "empty response"),
        ("implicit_preference", {"chosen": "same", "rejected": "same"}, "identical responses"),
        ("implicit_preference", {"chosen": "yes", "rejected": "no"}, "mismatched prompts"),
        ("implicit_preference", {"chosen": "Go on", "rejected": "Go"}, "empty response"),
        (
            "implicit_preference",
            {"chosen": MESSAGES, "rejected": [{"role": "user", "content": "b"}, MESSAGES[1]]},
            "mismatched prompts",
        ),
        ("messages", {"messages": MESSAGES[:1]}, "no assistant turn"),
        (
            "messages",
            {"messages": [{"role": "judge", "content": "x"}]},
            "messages holds an unknown role: judge",
        ),
        ("messages", {"messages": ["hi"]}, "messages holds an entry that is not a message with role and content"),
        ("messages", {"messages": MESSAGES[1:]}, "empty prompt"),
        (
            "unpaired_preference",
            _changed("unpaired_preference", label="perhaps"),
            "label is not true or false: perhaps",
        ),
        ("unpaired_preference", _changed("unpaired_preference", label=None), "label is missing"),
        ("unpaired_preference", _changed("unpaired_preference", completion=" "), "empty response"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": HH_YES}, "identical responses"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": "\n\nHuman: b\n\nAssistant: no"}, "mismatched prompts"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": HH_ASK}, "empty response"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": "\n\nHuman: a"}, "no final assistant turn"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": "well" + HH_YES}, "text before the first turn"),
        ("hh_rlhf", {"chosen": HH_YES, "rejected": "  "}, "empty rejected"),
        ("ranked_responses", _changed("ranked_responses", scores=[1, 2]), "number of responses and ranks differ"),
        ("ranked_responses", _changed("ranked_responses", scores="high"), "scores is not a list of numbers"),
        ("ranked_responses", _changed("ranked_responses", scores=[1, 2, None]), "scores is not a number: None"),
        ("ranked_responses", {"prompt": "p", "responses": ["a"], "ranks": [0]}, "fewer than two responses"),
        ("ranked_responses", _changed("ranked_responses", responses=["a", 1]), "responses is not a list of strings"),
        ("lm_human_preferences", _changed("lm_human_preferences", best=3), "best is not the index of a sample"),
        ("lm_human_preferences", _changed("lm_human_preferences", best="x"), "best is not a whole number: x"),
        (
            "lm_human_preferences",
            _changed("lm_human_preferences", query=["a"]),
            "query is neither text nor a list of token ids",
        ),
        (
            "summarize_from_feedback",
            _changed("summarize_from_feedback", choice=2),
            "choice is not the index of a summary",
        ),
        (
            "summarize_from_feedback",
            _changed("summarize_from_feedback", summaries=["a", "b"]),
            "info or summaries does not have the structure of summarize_from_feedback",
        ),
        ("tldr", _changed("tldr", summary=" "), "empty response"),
        ("open_assistant", {"prompt": "text"}, "prompt is not a tree of messages"),
        ("open_assistant", {"prompt": {"text": "a", "role": "judge"}}, "a message has no text or no known role"),
        (
            "open_assistant",
            {"prompt": {"text": "a", "role": "prompter", "replies": ["b"]}},
            "replies is not a list of messages",
        ),
        ("self_instruct", _changed("self_instruct", instances=[]), "empty instances"),
        ("self_instruct", _changed("self_instruct", instances=["x"]), "instances is not a list of objects"),
        ("self_instruct", _changed("self_instruct", instances=[{"input": "", "output": ""}]), "empty response"),
        ("alpaca", _changed("alpaca", input=3), "input is not a string"),
        (
            "real_toxicity_prompts",
            _changed("real_toxicity_prompts", prompt="x"),
            "prompt is not an object with text and scores",
        ),
        ("dialoconan", _changed("dialoconan", type="XX"), "type is not one of HS, CN"),
        ("dialoconan", _changed("dialoconan", turn_id="first"), "turn_id is not a whole number: first"),
    ],
)
def test_bad_records_have_their_reason(tmp_path: Path, name: str, record: dict[str, Any], reason: str) -> None:
    read = _read(tmp_path, [record], name=name)
    assert read.rows == []
    assert read.counts.bad == {reason: 1}
    assert [reject.origin.line for reject in read.rejects] == [1]


def test_a_record_with_one_bad_part_yields_no_row(tmp_path: Path) -> None:
    instances = [{"input": "", "output": "good"}, {"input": "", "output": ""}]
    read = _read(tmp_path, [_changed("self_instruct", instances=instances), EXAMPLES["self_instruct"][0]])
    assert read.counts.bad == {"empty response": 1}
    assert read.counts.rows == 2


@pytest.mark.parametrize(
    "record, kind, name",
    [
        ({"prompt": "p", "prompt_id": "1", "messages": MESSAGES}, None, "messages"),
        ({"prompt": "p", "chosen": " a", "rejected": " b", "response": " c"}, RankingRow, "preference"),
        ({"prompt": "p", "chosen": " a", "rejected": " b", "response": " c"}, ResponseRow, "prompt_response"),
        ({"prompt": "p", "response": "r", "completion": "c"}, ResponseRow, None),
    ],
)
def test_recognition_prefers_the_richer_and_the_wanted(
    record: dict[str, Any], kind: Kind | None, name: str | None
) -> None:
    if name is None:
        with pytest.raises(PlauditError, match=r"fit several formats.*choose one with format"):
            recognize("auto", [record], kind, "rows.jsonl")
    else:
        assert recognize("auto", [record], kind, "rows.jsonl").row_format.name == name


def test_recognition_ignores_bad_first_records(tmp_path: Path) -> None:
    good = EXAMPLES["hh_rlhf"][0]
    read = _read(tmp_path, [{"chosen": "x"}, good, good, good])
    assert read.row_format.name == "hh_rlhf"
    assert read.counts.bad == {"rejected is missing": 1}


def test_unknown_columns_name_the_nearest_formats(tmp_path: Path) -> None:
    with pytest.raises(
        PlauditError,
        match=r"columns answer, promt; closest: .*question_answer has answer in common and needs question",
    ):
        _read(tmp_path, [{"promt": "p", "answer": "a"}])


def test_columns_are_renamed_before_recognition(tmp_path: Path) -> None:
    records = [{"question": "p", "answer": "a"}]
    read = _read(tmp_path, records, columns={"question": "prompt", "answer": "response"})
    assert _rows(read) == [ResponseRow("p", "a", AT)]
    with pytest.raises(PlauditError, match="renames query, but no record has this column"):
        _read(tmp_path, records, columns={"query": "prompt"})


def test_a_named_format_overrides_recognition(tmp_path: Path) -> None:
    read = _read(tmp_path, EXAMPLES["preference"], name="prompt")
    assert _rows(read) == [PromptRow("The sky is", AT, {"chosen": " blue.", "rejected": " green."})]
    with pytest.raises(PlauditError, match="unknown format hh_rlfh; did you mean hh_rlhf"):
        _read(tmp_path, EXAMPLES["preference"], name="hh_rlfh")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", " ", "x", "CN", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "role", "content", "replies", "output"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(place for key, inner in items for place in _places(inner, (*before, key)))]


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(FORMATS)), junk=JUNK)
def test_no_record_however_odd_breaks_a_format(data: st.DataObject, name: str, junk: Any) -> None:
    records: list[Any] = copy.deepcopy(EXAMPLES[name])
    *path, last = data.draw(st.sampled_from([place for place in _places(records) if len(place) > 1]))
    inner: Any = records
    for key in path:
        inner = inner[key]
    inner[last] = junk
    row_format = FORMATS[name]
    placed = [(Origin("f", 1), record) for record in records]
    for origin, record in row_format.group(placed) if row_format.group else placed:
        if row_format.group is None and row_format.missing(record) is not None:
            continue
        for kind in row_format.kinds:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(openai, "gpt2_decoder", lambda: str)
                    parts = list(row_format.convert(record, origin, kind))
            except BadRowError:
                continue
            assert all(isinstance(part, Unused) or _is_sound(part) for part in parts)


def _is_sound(row: Row) -> bool:
    if isinstance(row, RankingRow):
        assert sorted(set(row.ranks)) == list(range(len(set(row.ranks))))
        assert len(set(row.ranks)) > 1
    elif isinstance(row, LabeledRow):
        assert len(row.desirable) == len(row.responses)
    assert all(isinstance(text, str) and text.strip() for text in row.responses)
    if row.prompt is not None:
        prompt = row.prompt if isinstance(row.prompt, str) else "".join(message.content for message in row.prompt)
        assert prompt.strip()
    return True
