"""Which turns of dialogues a stage learns, and what it says about them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from plaudit.data.prompt_record import read_record
from plaudit.errors import PlauditError
from trap_world import prepared, trainer

TURNS = [
    {"role": "user", "content": "w1 w2"},
    {"role": "assistant", "content": "w3 w4 w5"},
    {"role": "user", "content": "w6"},
    {"role": "assistant", "content": "w7 w8"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a stage starts from, and dialogues."""
    made = prepared(tmp_path_factory.mktemp("dialogues"))
    (made / "dialogues.jsonl").write_text(f"{json.dumps({'messages': TURNS})}\n" * 4)
    return made


def _sft(folder: Path, *overrides: str) -> Any:
    data = f"sft.data={{sources: [{folder / 'dialogues.jsonl'}], held_out_fraction: 0, max_unknown_fraction: 1}}"
    return trainer(folder, data, *overrides, stage="sft")


@pytest.mark.parametrize(
    "override, learned",
    [
        ("sft.learn_turns=all", ["w3 w4 w5", "w7 w8"]),
        ("sft.learn_turns=last", ["w7 w8"]),
        ("sft.loss_on=all", ["w1 w2", "w3 w4 w5", "w6", "w7 w8"]),
    ],
)
def test_turns_that_are_learned(folder: Path, override: str, learned: list[str]) -> None:
    task = _sft(folder, override).task
    tree = task.train[0].tree
    ids = [token for token, flag in zip(tree.responses[0], tree.flags(0), strict=True) if flag]
    words = task.loaded.tokenizer.decode(ids, skip_special_tokens=True).split()
    assert [word for word in words if word[1:].isdigit()] == " ".join(learned).split()


def test_text_that_the_tokenizer_cannot_write_is_refused(folder: Path) -> None:
    with pytest.raises(PlauditError, match=r"sft: .*: the tokenizer cannot write .* max_unknown_fraction=0.05"):
        _sft(folder, "sft.data.max_unknown_fraction=0.05")


def test_rows_that_the_template_does_not_write_whole_are_dropped_or_refused(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    template = "{% for turn in messages if turn['role'] != 'system' %}{{ turn['content'] }} {% endfor %}"
    model = f'sft.model={{path: {folder / "policy"}, chat_template: "{template}"}}'
    lines = [
        json.dumps({"messages": TURNS[2:]}),
        json.dumps({"messages": [{"role": "system", "content": "w9"}, *TURNS]}),
    ]
    (folder / "ruled.jsonl").write_text("\n".join([lines[0], lines[1], lines[0], lines[0]]) + "\n")
    ruled = f"sft.data.sources=[{folder / 'ruled.jsonl'}]"
    with pytest.raises(
        PlauditError, match=r"sft: .*: 1 of 4 rows dropped: .*, such as line 2: .* max_bad_fraction=0.2"
    ):
        _sft(folder, model, ruled, "sft.data.max_bad_fraction=0.2")
    kept = _sft(folder, model, ruled, "sft.data.max_bad_fraction=0.25").task.train
    assert len(kept) == 3
    assert "the first row not written whole: line 2: " in caplog.text


def test_plain_prompts_that_bypass_a_chat_template_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    template = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"
    with caplog.at_level("INFO"):
        made = trainer(folder, f'sft.model={{path: {folder / "policy"}, chat_template: "{template}"}}', stage="sft")
    assert "plain prompts bypass the tokenizer's chat template" in caplog.text
    made.task.save(folder / "saved")
    record = read_record(str(folder / "saved"))
    assert record is not None
    assert (record.prompts, record.prompt_template, record.chat_template) == ("plain", "{prompt}", True)
    assert AutoTokenizer.from_pretrained(folder / "saved").chat_template == template
