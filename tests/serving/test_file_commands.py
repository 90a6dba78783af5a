"""`plaudit generate` and `plaudit score`: what they write equals what Python gives, and no half file is left."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import plaudit
from plaudit.cli.main import app
from plaudit.serving import generate_file, score_file
from served_models import write_run

ROWS: list[dict[str, Any]] = [
    {"prompt": "w1 w2", "chosen": "w5 good", "rejected": "bad w6", "id": 1},
    {"prompt": "w3", "chosen": "w7", "rejected": "w8 w8", "id": 2},
    {"prompt": "w4", "chosen": "good", "rejected": "w9", "id": 3},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("commands"))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(*arguments: Any, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], input=text)


def refused(*arguments: Any) -> str:
    """Return the error of a command that is refused, in one line."""
    error = call(*arguments).exception
    assert isinstance(error, plaudit.PlauditError), error
    assert "\n" not in str(error)
    return str(error)


def test_generated_texts_are_those_of_python_whatever_the_batches(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["w1 w2", "w3", "w1 w2", "w4"]
    file, output = write(tmp_path / "prompts.jsonl", [{"prompt": text, "id": 7} for text in prompts]), tmp_path / "out"
    monkeypatch.setattr(generate_file, "TEXTS_AT_ONCE", 4)
    options = ("-n", 2, "--seed", 3, "--max-new-tokens", 5, "--temperature", 0.8, "--output", output)
    assert call("generate", run, "--prompts", file, *options).exit_code == 0
    policy = plaudit.load_policy(run, device="cpu")
    expected = policy.generate(prompts, n=2, seed=3, max_new_tokens=5, temperature=0.8)
    assert read(output) == [
        {"prompt": prompt, "response": text.text, "ended": text.ended, "fields": {"id": 7}}
        for prompt, own in zip(prompts, expected, strict=True)
        for text in own
    ]


def test_the_best_of_several_candidates_are_kept(run: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    file.write_text("w1 w2. w9\n\nw3\n")
    assert call("generate", run, "--prompts", file, "-n", 2, "--best-of", 6, "--output", output).exit_code == 0
    policy, reward = plaudit.load_policy(run, device="cpu"), plaudit.load_reward(run, device="cpu")
    prompts = ["w1 w2. w9", "w3"]
    candidates = policy.generate(prompts, n=6)
    rows = read(output)
    for number, (own, scores) in enumerate(zip(candidates, reward.score(prompts, candidates), strict=True)):
        best = sorted(range(6), key=lambda index: -scores[index])[:2]
        assert [row["response"] for row in rows[2 * number :][:2]] == [own[index].text for index in best]
        assert [row["score"] for row in rows[2 * number :][:2]] == pytest.approx(scores[best].tolist(), abs=1e-5)


def test_lines_of_the_input_are_prompts_and_texts_go_to_the_output(run: Path) -> None:
    result = call("generate", run, "--prompts", "-", text="w1 w2\n\nw3\n")
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    [[first], [second]] = plaudit.load_policy(run, device="cpu").generate(["w1 w2", "w3"])
    assert [row["response"] for row in rows] == [first.text, second.text]


def test_pairs_are_scored_as_in_python_and_the_accuracy_is_printed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "scores.jsonl"
    monkeypatch.setattr(score_file, "ROWS_AT_ONCE", 2)
    result = call("score", run, "--data", file, "--output", output)
    assert result.exit_code == 0, result.exception
    reward = plaudit.load_reward(run, device="cpu")
    texts = [[row["chosen"], row["rejected"]] for row in ROWS]
    scores = reward.score([row["prompt"] for row in ROWS], texts)
    rows = read(output)
    assert [{key: row[key] for key in ROWS[0]} for row in rows] == ROWS
    for row, own, expected in zip(rows, texts, scores, strict=True):
        assert sorted(row["responses"]) == sorted(own)
        by_text = dict(zip(row["responses"], row["scores"], strict=True))
        assert [by_text[text] for text in own] == pytest.approx(expected.tolist(), abs=1e-5)
    right = int((scores[:, 0] > scores[:, 1]).sum())
    assert f"accuracy: {right / 3:.3f} (" in result.stdout
    assert (
        f"scores: 6 responses, mean {scores.mean():.4g}, standard deviation {scores.std(ddof=1):.4g}" in result.stdout
    )


def test_single_responses_get_one_score_each(run: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "w1", "response": "w2", "score": 1.5}, {"prompt": "w3", "response": "good", "score": 2}]
    file, output = write(tmp_path / "rows.jsonl", rows), tmp_path / "scores.jsonl"
    assert "the column score exists already; name another with --column" in refused(
        "score", run, "--data", file, "--format", "prompt_response", "--output", output
    )
    assert not output.exists()
    options = ("--format", "prompt_response", "--column", "judge")
    assert call("score", run, "--data", file, *options, "--output", output).exit_code == 0
    scores = plaudit.load_reward(run, device="cpu").score(["w1", "w3"], ["w2", "good"])
    found = read(output)
    assert [row.pop("judge") for row in found] == pytest.approx(scores.tolist(), abs=1e-5)
    assert found == rows


def test_responses_without_a_judgement_are_scored_too(run: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "w1", "responses": ["w2", "good", "w3"]}, {"prompt": "w3", "responses": ["bad w1", "w2"]}]
    file, output = write(tmp_path / "rows.jsonl", rows), tmp_path / "scores.jsonl"
    result = call("score", run, "--data", file, "--output", output)
    assert "accuracy" not in result.stdout
    reward = plaudit.load_reward(run, device="cpu")
    for row, given in zip(read(output), rows, strict=True):
        expected = reward.score([given["prompt"]], [given["responses"]])[0]
        assert row == {**given, "scores": pytest.approx(expected.tolist(), abs=1e-5)}


def explode(prompts: list[str], responses: list[str]) -> list[float]:
    if "w3" in prompts[0]:
        raise ValueError("enough")
    return [0.0] * len(responses)


def test_an_error_in_the_middle_leaves_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "scores.jsonl"
    monkeypatch.setattr(score_file, "ROWS_AT_ONCE", 1)
    output.write_text("before")
    assert "exists already; name another file, or replace it with --overwrite" in refused(
        "score", run, "--data", file, "--output", output
    )
    message = refused("score", f"{__name__}:explode", "--data", file, "--output", output, "--overwrite")
    assert "enough" in message
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "scores.jsonl"]
    assert call("score", run, "--data", file, "--output", output, "--overwrite").exit_code == 0
    assert len(read(output)) == 3


@pytest.mark.parametrize(
    "command, message",
    [
        ("generate {run} --prompts {folder}/none.jsonl", "none.jsonl"),
        ("generate {run} --prompts {folder}/bad.jsonl", "bad.jsonl line 2: "),
        ("generate {run} --prompts {folder}/good.jsonl --best-of 2 -n 3", "--best-of 2 is less than the 3 texts"),
        ("generate {run}/sft/model --prompts {folder}/good.jsonl --best-of 2", "score"),
        ("generate {run} --prompts {folder}/good.jsonl --max-new-tokens 63", "good.jsonl line 1: a prompt of "),
        ("score {run} --data {folder}/good.jsonl", "good.jsonl line 1: no responses; give a prompt with"),
        ("score {run} --data {folder}/texts.txt", "texts.txt line 1: no prompt; give a prompt with"),
        ("score nothing-here --data {folder}/pairs.jsonl", "nothing-here"),
    ],
)
def test_bad_calls_are_refused(run: Path, tmp_path: Path, command: str, message: str) -> None:
    write(tmp_path / "good.jsonl", [{"prompt": "w1"}])
    write(tmp_path / "bad.jsonl", [{"prompt": "w1"}, {"prompt": 3}])
    write(tmp_path / "pairs.jsonl", ROWS)
    (tmp_path / "texts.txt").write_text("w1 w2\n")
    assert message in refused(*command.format(run=run, folder=tmp_path).split())
