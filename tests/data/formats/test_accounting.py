"""Whatever the records are, each is accounted for exactly once, and the declared columns are those that are read."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from format_examples import EXAMPLES
from plaudit.config.schema import SourceConfig
from plaudit.data.conversion import Conversion
from plaudit.data.formats import openai
from plaudit.data.formats.base import Kind, Record
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import Origin, ResponseRow
from plaudit.data.sources import read_source

VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "x", "tie", "b", "1.0", "nan"]) | st.just([])
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """Draw a format and records of it, some with a column that is changed or missing."""
    name = draw(st.sampled_from(sorted(FORMATS)))
    records = []
    for _ in range(draw(st.integers(1, 4))):
        for example in copy.deepcopy(EXAMPLES[name]):
            if draw(st.booleans()):
                column = draw(st.sampled_from(sorted(example)))
                example[column] = draw(VALUES)
                if draw(st.booleans()):
                    del example[column]
            records.append(example)
    return name, records


@settings(max_examples=300, deadline=None)
@given(drawn=files(), data=st.data())
def test_every_record_is_accounted_for_once(drawn: tuple[str, list[dict[str, Any]]], data: st.DataObject) -> None:
    name, records = drawn
    row_format = FORMATS[name]
    kind: Kind = data.draw(st.sampled_from(row_format.kinds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai, "gpt2_decoder", lambda: str)
        done = Conversion(((Origin("f", line), record) for line, record in enumerate(records, 1)), row_format, kind)
        rows = list(done)
    # The lines are counted from what came out, not by the counters.
    with_rows = {row.origin.line for row in rows}
    rejected = [reject.origin.line for reject in done.rejects]
    assert len(set(rejected)) == len(rejected)
    assert not with_rows & set(rejected)
    assert len(with_rows) == done.used
    if row_format.group is None:
        assert done.used + done.without_row + len(rejected) == len(records)
        silent = set(range(1, len(records) + 1)) - with_rows - set(rejected)
        assert len(silent) == done.without_row
        assert not silent or done.unused
    else:
        groups = list(row_format.group([(Origin("f", line), record) for line, record in enumerate(records, 1)]))
        assert done.used + done.without_row + len(rejected) == len(groups)
        members = [member for _, group in groups for part in group.values() for member in part]
        assert sorted(map(repr, members)) == sorted(map(repr, records))
    seen = Counter(column for record in records for column in record if record[column] not in (None, "", [], {}))
    assert all(number <= seen[column] for column, number in done.unread.items())


class Watched(dict[str, Any]):
    """A record that knows which of its columns were read."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record)
        self.read: set[str] = set()

    def __getitem__(self, column: str) -> Any:
        self.read.add(column)
        return super().__getitem__(column)

    def get(self, column: str, default: Any = None) -> Any:
        self.read |= {column} & self.keys()
        return super().get(column, default)


@pytest.mark.parametrize("name", FORMATS)
def test_the_declared_columns_are_those_that_are_read(name: str) -> None:
    row_format = FORMATS[name]
    records = [Watched({**record, "unknown": 1}) for record in EXAMPLES[name]]
    for record in records:
        assert row_format.others(record) >= {"unknown"}, name
    declared = {column for record in records for column in record.keys() - row_format.others(record)}
    for record in records:
        record.read.clear()
    placed: list[tuple[Origin, Record]] = [(Origin("f", line), record) for line, record in enumerate(records, 1)]
    groups = row_format.group(placed) if row_format.group else placed
    convert = row_format.settle(row_format, EXAMPLES[name]).convert if row_format.settle else row_format.convert
    for origin, whole in groups:
        for kind in row_format.kinds:
            list(convert(whole, origin, kind))
    read = {column for record in records for column in record.read}
    assert read <= declared
    # A group or a copy of a record is read without being watched. The names of models are read only if they are the
    # winner, and the names of annotators are not read.
    unwatched = {"dolly": declared, "open_assistant_messages": declared, "argilla_table": {"better.responses.users"}}
    unwatched |= {"arena": {"model_a", "model_b"}, "label_studio_min": {"annotation_id"}}
    unwatched |= {"argilla_feedback": {"order", "order-suggestion"}}
    assert declared - read <= unwatched.get(name, set())


@pytest.mark.parametrize(
    "turns, reason",
    [
        ("0,0 0,1 0,2 0,3 0,0 0,1", "a turn_id is repeated in the dialogue, or two dialogues have one dialogue_id"),
        ("0,0 0,2 0,3", "a turn of the dialogue is missing"),
        ("0,2 0,3", "a turn of the dialogue is missing"),
        ("0,0 0,x", "turn_id is not a whole number: x"),
        ("0,0 0,1.5", "turn_id is not a whole number: 1.5"),
        (",0 ,1", "dialogue_id is missing"),
    ],
)
def test_a_wrong_turn_makes_the_whole_dialogue_bad(tmp_path: Path, turns: str, reason: str) -> None:
    path = tmp_path / "turns.csv"
    good = "9,0,HS,claim\n9,1.0,CN,answer\n"
    lines = [f"{turn},{'CN' if number % 2 else 'HS'},text {number}\n" for number, turn in enumerate(turns.split())]
    path.write_text("dialogue_id,turn_id,type,text\n" + good + "".join(lines))
    read = read_source(SourceConfig(path=str(path)), ResponseRow)
    assert [row.response for row in read.rows] == ["answer"]
    assert set(read.counts.bad) == {reason}


def test_turns_after_the_last_answer_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    turns = [("HS", "a"), ("CN", "b"), ("HS", "c")]
    records = [{"dialogue_id": 1, "turn_id": n, "type": kind, "text": text} for n, (kind, text) in enumerate(turns)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    read = read_source(SourceConfig(path=str(path)), ResponseRow)
    assert (len(read.rows), read.counts.unused) == (1, {"turns after the last counter-narrative": 1})
