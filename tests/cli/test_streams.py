"""Output and error output hold Plaudit's own lines alone: no progress bars, reports or warnings of the libraries."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from plaudit.log import quiet_libraries
from tiny_runs import tiny_recipe

SCRIPT = """
import io, sys
import plaudit
from plaudit.cli.main import main


def command(*arguments, typed=""):
    sys.argv, sys.stdin = ["plaudit", *arguments], io.TextIOWrapper(io.BytesIO(typed.encode()))
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, arguments


lora, evaluation = "{path: lm, lora: {}}", (
    "evaluate={models: {a: lm, b: stage:rl}, baseline: a, prompts: {sources: [demonstrations.jsonl]}, rewards: "
    "[{name: f, kind: model, path: rm}, {name: c, kind: classifier, path: rm}], generation: {max_new_tokens: 4}, "
    "toxicity: {classifier: rm, labels: [LABEL_0], activation: sigmoid}}"
)
command(
    *("run", "recipe.yaml", "pretrain=null", "dpo=null", f"sft.model={lora}", f"reward.model={lora}"),
    *(f"rl.model={lora}", "rl.weights=adapters", "rl.value_model=null", "rl.iterations=1", "rl.epochs=1"),
    *("sft.max_steps=1", "reward.max_steps=1", "report={}", evaluation),
)
command("chat", "tiny", "--best-of", "2", "--max-new-tokens", "4", typed="w1" + chr(10))
command("data", "inspect", "demonstrations.jsonl", "--tokenizer", "lm", "--show-mask")
from transformers import GPT2LMHeadModel, AutoTokenizer
print("in Python", file=sys.stderr)
model, tokenizer = GPT2LMHeadModel.from_pretrained("lm"), AutoTokenizer.from_pretrained("lm")
print("a call", file=sys.stderr)
rows = [{"prompt": "w1", "response": "w2"}, {"prompt": "w3", "response": "w4"}] * 4
data = {"sources": [rows], "held_out_fraction": 0.0}
plaudit.run({"name": "called", "device": "cpu", "sft": {"model": (model, tokenizer), "data": data, "max_steps": 1}})
"""
OURS = re.compile(
    r"(policy|reward model|value model|(sft|reward|rl|evaluate|report)( \d+/\d+,|:)|warning: (the reward|sft|rl)|the r)"
)


def test_only_lines_of_plaudit(tmp_path: Path) -> None:
    tiny_recipe(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    sizes = {"vocab_size": len(tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    config = GPT2Config(bos_token_id=0, eos_token_id=1, pad_token_id=2, **sizes)
    torch.manual_seed(0)
    for name, kind in (("lm", GPT2LMHeadModel), ("rm", GPT2ForSequenceClassification)):
        config.id2label = {0: "LABEL_0"}
        kind(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    script = f"import sys; sys.path[:] = {sys.path!r}\n{SCRIPT}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    before, _, called = ended.stderr.partition("in Python\n")
    lines = [*before.splitlines(), *called.partition("a call\n")[2].splitlines()]
    assert len(lines) > 20
    assert [line for line in lines if not OURS.match(line)] == []
    foreign = (
        r"it/s\]|\r|Loading weights|Writing model|UserWarning|FutureWarning|\[transformers\]|Map:|real_accelerator"
    )
    assert re.findall(foreign, ended.stdout) == []


def test_what_the_libraries_print_is_hidden_and_shown_again() -> None:
    import datasets
    import transformers.utils.logging as messages

    before = messages.get_verbosity(), messages.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    with warnings.catch_warnings(record=True) as seen:
        with quiet_libraries():
            assert datasets.are_progress_bars_disabled()
            assert not messages.is_progress_bar_enabled()
            warnings.warn_explicit("theirs", UserWarning, "layer.py", 1, module="peft.tuners.lora.layer")
            warnings.warn_explicit("mine", UserWarning, "rewards.py", 1, module="rewards")
        warnings.warn_explicit("after", UserWarning, "layer.py", 2, module="peft.tuners.lora.layer")
    assert [str(warning.message) for warning in seen] == ["mine", "after"]
    now = messages.get_verbosity(), messages.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    assert now == before
