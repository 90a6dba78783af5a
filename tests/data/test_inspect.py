"""The counts of ``plaudit data inspect``, as data and as printed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from format_examples import EXAMPLES
from plaudit.cli.data import app
from plaudit.config.schema import SourceConfig
from plaudit.data.conversion import Reject
from plaudit.data.formats.registry import FORMATS
from plaudit.data.inspect import inspect
from plaudit.data.measures import Lengths
from plaudit.data.rows import PromptRow, Row
from plaudit.data.sources import SourceReading
from plaudit.data.splits import row_content
from plaudit.errors import PlauditError
from tiny_tokenizers import byte_level, letters_only

RECORDS: list[Any] = [
    {"prompt": "one two", "chosen": " a b c", "rejected": " a"},
    {"prompt": "one two", "chosen": " a b c", "rejected": " a"},
    {"prompt": "one two", "chosen": " a b", "rejected": " b"},
    {"prompt": "one", "chosen": " same", "rejected": " same"},
    {"prompt": "one", "chosen": " ", "rejected": " b"},
    {"prompt": "", "chosen": " a", "rejected": " b"},
    {
        "prompt": "p",
        "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}],
        "rejected": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "y"}],
    },
    {"prompt": "one two three four five", "chosen": " [bold]", "rejected": " b"},
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return str(path)


def test_every_count(file: str) -> None:
    found = inspect(SourceConfig(path=file), samples=2)
    assert (found.format, found.kind, found.kinds) == ("preference", "ranking", FORMATS["preference"].kind_names)
    assert (found.counts.records, found.counts.rows, found.counts.bad_records) == (8, 4, 4)
    assert (found.prompts, found.duplicates) == (2, 1)
    assert (found.identical_responses, found.mismatched_prompts, found.empty_texts) == (1, 1, 2)
    assert found.lengths == {
        "prompt, characters": Lengths(7, 7, 11.0, 23, 23),
        "response, characters": Lengths(2, 2, 3.875, 7, 7),
    }
    assert (found.overlong, found.context_length) == (None, None)
    assert [row.origin.line for row in found.samples] == [1, 3]
    assert [reject.origin.line for reject in found.rejects] == [4, 5, 6, 7]


def test_lengths_in_tokens_and_overlong_rows(file: str) -> None:
    tokenizer = byte_level()

    def size(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    rows = [RECORDS[index] for index in (0, 1, 2, 7)]
    prompts = [size(row["prompt"]) for row in rows]
    longest = [max(size(row["chosen"]), size(row["rejected"])) + 1 for row in rows]
    limit = prompts[0] + longest[0]
    found = inspect(SourceConfig(path=file), tokenizer=tokenizer, context_length=limit)
    assert found.lengths["prompt, tokens"].longest == max(prompts)
    assert found.lengths["response, tokens"].longest == max(longest)
    assert found.overlong == sum(p + r > limit for p, r in zip(prompts, longest, strict=True)) == 1
    assert inspect(SourceConfig(path=file), tokenizer=tokenizer).overlong is None
    tokenizer.model_max_length = limit - 1
    assert inspect(SourceConfig(path=file), tokenizer=tokenizer).overlong == 3


def test_the_wanted_kind_is_read(file: str) -> None:
    found = inspect(SourceConfig(path=file), PromptRow)
    assert found.kind == "prompt"
    assert set(found.lengths) == {"prompt, characters"}
    # Read as prompts, all three rows with the first prompt are the same.
    assert found.duplicates == 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_format_is_inspected(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(EXAMPLES[name]))
    named = name if FORMATS[name].on_request else "auto"
    found = inspect(SourceConfig(path=str(path), format=named), tokenizer=byte_level())
    assert found.format == name
    assert len({row_content(row) for row in found.samples}) == len(found.samples) > 0
    assert any(what.endswith("tokens") for what in found.lengths)


def told(output: str) -> list[str]:
    """Return the printed lines without frames and runs of spaces."""
    return [" ".join(line.replace("│", " ").split()) for line in output.splitlines()]


def test_the_command_prints_the_counts_and_the_data_as_it_is(file: str, tmp_path: Path) -> None:
    byte_level().save_pretrained(tmp_path / "tokenizer")
    arguments = ["inspect", file, "--tokenizer", str(tmp_path / "tokenizer"), "--context-length", "6", "--samples", "4"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 1, "half of the records are bad"
    lines = told(result.output)
    for line in (
        "format preference",
        "row kinds ranking, labeled, response, prompt (read as ranking)",
        "records 8",
        "duplicate rows 1",
        "mismatched prompts 1",
        "bad records 4 (50.00%; at most 1.00% with max_bad_fraction=0.01)",
        "prompt, characters 7 7 11.0 23 23",
        "response, rank 0 [bold]",
    ):
        assert line in lines
    assert any(line.startswith("longer than 6 tokens") for line in lines)
    assert any(line.startswith("line 4: identical responses") for line in lines)


def test_a_file_that_a_stage_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "response": "r", "is_safe": false, "id": 1}\n')
    result = CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "A stage would refuse this: " in result.output
    assert "does not read is_safe, which looks like a judgement" in result.output
    lines = told(result.output)
    assert "recognized by columns prompt, response" in lines
    assert "columns not read id, is_safe" in lines
    accepted = CliRunner().invoke(app, ["inspect", str(path), "--ignore-column", "is_safe"], env={"COLUMNS": "200"})
    assert accepted.exit_code == 0, accepted.output
    assert "columns not read id" in told(accepted.output)


def test_the_command_lists_all_formats() -> None:
    result = CliRunner().invoke(app, ["formats"])
    assert result.exit_code == 0
    assert result.output.count("\n") == len(FORMATS) + 2
    assert "| `comparison` | " in result.output


def test_the_command_shows_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in EXAMPLES["unpaired_preference"]))
    result = CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    lines = told(result.output)
    for line in (
        "format unpaired_preference",
        "row kinds labeled, response, prompt (read as labeled)",
        "response, desirable blue.",
        "response, undesirable green.",
    ):
        assert line in lines


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(app, ["inspect", "--help"])
    assert "Example: plaudit data inspect" in result.output


def test_no_row_and_no_bad_record_is_shown_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "p", "response": "r"}] * 30 + [{"prompt": "q", "response": "r"}] + [{"prompt": "q"}] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.origin.line for row in inspect(SourceConfig(path=str(path)), samples=5).samples] == [1, 31]
    output = CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": "120"}).output
    assert output.count(json.dumps({"prompt": "q"})) == 1
    assert "bad records (1 of 3; equal ones once)" in " ".join(told(output))


def test_the_end_of_a_long_record_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good, empty = {"prompt": "p", "response": "r"}, {"prompt": "x" * 5000, "response": " ", "id": "the end"}
    broken = '{"prompt": "' + "y" * 5000 + '", "a": 1 x}'
    path.write_text("".join(row + "\n" for row in [json.dumps(good), json.dumps(empty), broken]))
    found = inspect(SourceConfig(path=str(path)))
    assert [reject.excerpt[-40:].split(", ", 1)[1] for reject in found.rejects] == [
        '"response": " ", "id": "the end"}',
        '"a": 1 x}',
    ]
    assert all(len(reject.excerpt) <= 500 for reject in found.rejects)
    output = "".join(told(CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": "120"}).output))
    assert '"a": 1 x}' in output
    assert '"id": "the end"}' in output


def test_what_a_stage_would_say_about_few_prompts_and_near_formats(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    record = {"prompt": "p", "chosen_text": "a", "rejected_text": "b"}
    path.write_text((json.dumps(record) + "\n") * 20)
    found = inspect(SourceConfig(path=str(path)))
    assert found.nearest is not None
    assert found.nearest.startswith("preference has prompt in common and needs chosen, rejected; ")
    assert found.split_note is not None
    assert "duplicates of earlier rows: 19" in found.split_note


def test_a_tokenizer_that_cannot_write_the_text_is_a_reason_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "abc", "response": " 123"}) + "\n")
    found = inspect(SourceConfig(path=str(path)), tokenizer=letters_only())
    assert found.written is not None
    assert (found.written.characters, found.written.dropped) == (6, 3)
    assert "cannot write 50.0% of the characters" in str(found.refusal)


def numbers_in(value: Any) -> set[str]:
    """Return all numbers in JSON values and in the texts among them, as text."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values()), *map(numbers_in, value))
    if isinstance(value, list):
        return set().union(*map(numbers_in, value))
    return set(re.findall(r"\d+(?:\.\d+)?", value if isinstance(value, str) else f"{value}"))


def test_json_has_every_number_that_the_text_shows(file: str, tmp_path: Path) -> None:
    byte_level().save_pretrained(tmp_path / "tokenizer")
    arguments = ["inspect", file, "--tokenizer", str(tmp_path / "tokenizer"), "--context-length", "6", "--samples", "4"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert (shown.exit_code, result.exit_code) == (1, 1)
    found = json.loads(result.stdout)
    # Fractions of counts, means to one place, and how many bad records are printed, follow from other numbers.
    derived = {"50.00", "0.00", "1.00", "95"} | {f"{lengths['mean']:.1f}" for lengths in found["lengths"].values()}
    facts = "\n".join(told(shown.output)).split("bad records (")[0] + "\n".join(told(shown.output)).split("samples")[1]
    assert numbers_in(facts.replace(file, "")) - derived <= numbers_in(found)
    assert found["lengths"]["response, characters"] == {
        "shortest": 2, "median": 2, "mean": 3.875, "percentile_95": 7, "longest": 7
    }  # fmt: skip
    assert (found["records"], found["bad_records"], found["duplicate_rows"]) == (8, 4, 1)
    assert [reject["origin"]["line"] for reject in found["rejects"]] == [4, 5, 6, 7]
    assert found["samples"][0]["texts"][0] == ["prompt", "one two"]
    assert "records are bad" in found["refusal"]


def test_json_of_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "p", "response": "ä [bold]"}) + "\n")
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["refusal"], found["tokens"], found["longer_than_context"]) == (None, None, None)
    assert found["samples"][0]["texts"] == [["prompt", "p"], ["response", "ä [bold]"]]


def test_show_mask_is_refused_with_json(file: str) -> None:
    result = CliRunner().invoke(app, ["inspect", file, "--json", "--show-mask", "--tokenizer", "t"])
    assert "--show-mask prints a table; leave out --json" in str(result.exception)


def many(path: Path, number: int) -> list[dict[str, str]]:
    """Write rows of which every fifth is bad and every tenth a copy of the one before."""
    rows = [
        {"prompt": f"p{n - (n % 10 == 9)}", "response": "" if n % 5 == 2 else f"r{n - (n % 10 == 9)}" * (n % 7 + 1)}
        for n in range(number)
    ]
    for n in range(9, number, 10):
        rows[n] = rows[n - 1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_file_of_several_parts_is_counted_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plaudit.data.inspect._ROWS_AT_ONCE", 64)
    rows = many(tmp_path / "rows.jsonl", 1000)
    steps: list[tuple[int, float | None]] = []
    found = inspect(SourceConfig(path=str(tmp_path / "rows.jsonl")), progress=lambda *step: steps.append(step))
    good = [row for row in rows if row["response"]]
    contents = {tuple(row.values()) for row in good}
    assert (found.counts.records, found.counts.rows, found.counts.bad_records) == (1000, 800, 200)
    assert (found.duplicates, found.prompts) == (800 - len(contents), len({row["prompt"] for row in good}))
    assert found.lengths["response, characters"].longest == max(len(row["response"]) for row in good)
    assert len(found.rejects) == 100, "the first bad records"
    assert found.rejects[0].origin.line == 3
    assert "200 of 1000 records are bad" in str(found.refusal)
    assert [step[0] for step in steps] == [*range(64, 800, 64), 800]
    fractions = [step[1] for step in steps]
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions, key=lambda fraction: fraction or 0)


def test_a_source_is_read_again_only_if_it_has_few_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(*_: object) -> None:
        raise AssertionError("read again")

    many(tmp_path / "rows.jsonl", 100)
    (tmp_path / "few.jsonl").write_text('{"prompt": "p", "response": "r"}\n' * 3)
    monkeypatch.setattr("plaudit.data.inspect.held_out_draws", draws)
    assert inspect(SourceConfig(path=str(tmp_path / "rows.jsonl"))).split_note is None
    with pytest.raises(AssertionError, match="read again"):
        inspect(SourceConfig(path=str(tmp_path / "few.jsonl")))


def test_places_in_several_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"prompt": "p", "response": "{name}"}}\n{{"prompt": ""}}\n')
    output = CliRunner().invoke(app, ["inspect", str(tmp_path)], env={"COLUMNS": "300"}).output
    for name in ("a", "b"):
        assert f"{tmp_path / name}.jsonl line 1" in told(output)
    assert f"{tmp_path / 'a'}.jsonl line 2: response is missing" in output


@pytest.mark.parametrize("option", [["--split", "test"], ["--subset", "en"], ["--revision", "main"], ["--streaming"]])
def test_options_of_hub_datasets_are_refused_for_a_file(file: str, option: list[str]) -> None:
    result = CliRunner().invoke(app, ["inspect", file, *option])
    assert isinstance(result.exception, PlauditError)
    assert f"{option[0][2:]} only applies to hub datasets" in str(result.exception)


def test_many_bad_records_in_a_row_are_counted_but_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    take = SourceReading.new_rejects

    def counting(reading: SourceReading[Row]) -> list[Reject]:
        rejects = take(reading)
        kept.append(len(rejects))
        return rejects

    monkeypatch.setattr("plaudit.data.inspect._ROWS_AT_ONCE", 50)
    monkeypatch.setattr(SourceReading, "new_rejects", counting)
    good = json.dumps({"prompt": "p", "response": "r"}) + "\n"
    bad = "".join(json.dumps({"prompt": f"p{n}", "response": ""}) + "\n" for n in range(1000))
    (tmp_path / "rows.jsonl").write_text(good + bad + "broken\n" * 500 + good)
    found = inspect(SourceConfig(path=str(tmp_path / "rows.jsonl")))
    assert found.counts.bad == {"empty response": 1000, "malformed JSON": 500}
    assert (found.counts.records, found.duplicates) == (1502, 1)
    assert [reject.origin.line for reject in found.rejects] == list(range(2, 52))
    assert max(kept) == 50
