"""Rows that a chat template does not write as they are get dropped, and a stage stops if they are too many."""

import json
from typing import Any

import pytest

from chat_templates import tokenizer_of
from plaudit.config.schema import DataConfig
from plaudit.data.measures import TokenMeasures
from plaudit.data.rows import Message, Origin, PromptRow, RankingRow, ResponseRow, Row, ToolCall
from plaudit.data.template_checks import CHANGED, LOST_CALL, LOST_FUNCTION, LOST_RESULT, LOST_TURN
from plaudit.data.templates import CHANGED_TURN, CUT, SPACED
from plaudit.data.tokenization import tokenize_rows
from plaudit.errors import PlauditError
from tiny_tokenizers import byte_level

AT = Origin("rows.jsonl", 7)
# Each template writes turns in one way, and the question of what it leaves out is asked of it.
PLAIN = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</s>{% endfor %}"
CALLS = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}"
    "{% for call in turn.tool_calls %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}"
    "</s>{% endfor %}"
)
NAMES = CALLS.replace("{{ call.function.arguments | tojson }}", "")
FUNCTIONS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
NO_RESULTS = CALLS.replace("for turn in messages", "for turn in messages if turn.role != 'tool'")
QUOTED = FUNCTIONS + CALLS.replace(
    "{{ turn.content }}", "{{ turn.content | tojson if turn.role == 'tool' else turn.content }}"
)
NO_SYSTEM = PLAIN.replace("for turn in messages", "for turn in messages if turn.role != 'system'")
LOUD = PLAIN.replace("{{ turn.content }}", "{{ turn.content | upper }}")
LOUD_USER = PLAIN.replace("{{ turn.content }}", "{{ turn.content | upper if turn.role == 'user' else turn.content }}")
SHORT = PLAIN.replace(
    "{{ turn.content }}", "{{ turn.content.split(' ')[-1] if turn.role == 'assistant' else turn.content }}"
)
SPACES = PLAIN.replace("{{ turn.content }}", "{{ turn.content.split() | join(' ') }}")

USER = Message("user", "What time is it?")
CALL = Message("assistant", "", tool_calls=(ToolCall("for", '{"zone": "UTC"}'),), learned=True)
RESULT = Message("tool", '{"time": "12:00"}')
TOOLS = Message("tools", json.dumps([{"type": "function", "function": {"name": "for"}}]))
LEARNED = ResponseRow((USER, CALL, RESULT), "It is noon.", AT)
FINAL = ResponseRow((USER,), CALL.text, AT, final=CALL)
ASKED = PromptRow((USER, Message("assistant", "", tool_calls=CALL.tool_calls), RESULT), AT)
WITH_TOOLS = ResponseRow((TOOLS, USER), "Noon.", AT)
PAIR = RankingRow((Message("system", "Be brief."), USER), ("It is noon.", "It is one."), (0, 1), AT)


def _tokenizer(template: str) -> Any:
    tokenizer = byte_level()
    tokenizer.chat_template = template
    return tokenizer


def _config(**options: object) -> DataConfig:
    return DataConfig.model_validate({"sources": ["rows.jsonl"], **options})


@pytest.mark.parametrize(
    "row, template, reason",
    [
        # The name of the function is also a word of other texts, and the call may be in any turn.
        (LEARNED, PLAIN, LOST_CALL),
        (FINAL, PLAIN + " for", LOST_CALL),
        (ASKED, PLAIN, LOST_CALL),
        (FINAL, NAMES, LOST_CALL),
        (LEARNED, NO_RESULTS, LOST_RESULT),
        (ASKED, NO_RESULTS, LOST_RESULT),
        (WITH_TOOLS, CALLS, LOST_FUNCTION),
        (PromptRow(WITH_TOOLS.prompt, AT), CALLS + "for", LOST_FUNCTION),
        (PAIR, NO_SYSTEM, LOST_TURN),
        (PAIR, SHORT, CHANGED),
        (PAIR, LOUD, CHANGED),
        (ResponseRow((USER,), "It is noon.", AT), SHORT, CHANGED),
        (ResponseRow((USER, Message("assistant", "It is noon.", learned=True), USER), "Noon.", AT), SHORT, CHANGED),
    ],
)
def test_what_a_template_leaves_out_is_a_dropped_row(row: Row, template: str, reason: str) -> None:
    tokenizer = _tokenizer(template)
    with pytest.raises(PlauditError, match=r"^rows.jsonl: 1 of 1 rows dropped: .*, such as line 7: .*max_bad_fraction"):
        tokenize_rows([row], tokenizer, _config(), 4096)
    good = ResponseRow((USER,), "12:00", AT)
    done = tokenize_rows([row, good, good], tokenizer, _config(max_bad_fraction=0.34), 4096)
    assert [kept.row for kept in done.rows] == [good, good]
    assert done.counted[reason] == 1
    measures = TokenMeasures(tokenizer, None)
    measures.add([row])
    assert measures.unfaithful.startswith("line 7: ")
    assert measures.first is None


@pytest.mark.parametrize(
    "row, template, counted",
    [
        (LEARNED, CALLS, {}),
        (LEARNED, QUOTED, {}),
        (FINAL, CALLS, {}),
        (ASKED, QUOTED, {}),
        (WITH_TOOLS, QUOTED, {}),
        (PAIR, PLAIN, {}),
        (PAIR, LOUD_USER, {CHANGED_TURN: 1}),
        (ResponseRow((USER,), "It is\n\nnoon.", AT), SPACES, {SPACED: 1}),
    ],
)
def test_rows_that_are_written_whole_are_kept(row: Row, template: str, counted: dict[str, int]) -> None:
    done = tokenize_rows([row], _tokenizer(template), _config(), 4096)
    assert len(done.rows) == 1
    assert done.counted == counted


def test_thoughts_may_be_left_out_of_earlier_answers_but_not_of_the_response() -> None:
    turns = (USER, Message("assistant", "<think>So.</think>Noon."), USER)
    done = tokenize_rows([ResponseRow(turns, "Noon.", AT)], tokenizer_of("deepseek"), _config(), 4096)
    assert done.counted == {CHANGED_TURN: 1, CUT: 1}
    with pytest.raises(PlauditError, match=r"such as line 7: '<think>Hm.</think>Noon.' becomes 'Noon."):
        tokenize_rows([ResponseRow(turns, "<think>Hm.</think>Noon.", AT)], tokenizer_of("deepseek"), _config(), 4096)


def test_without_the_template_calls_are_json() -> None:
    plain = _config(conversation="human_assistant")
    (row,) = tokenize_rows([FINAL], _tokenizer(PLAIN), plain, 4096).rows
    assert '"name": "for"' in _tokenizer(PLAIN).decode(row.tree.responses[0])
