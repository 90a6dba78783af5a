"""The example of the page on Python runs as shown, with a smaller model."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from plaudit.config.schema import FreshModel, ModelConfig
from plaudit.models.loading.models import load_policy
from plaudit.quickstart.tokenizer import save_tokenizer
from tiny_runs import FRESH

PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")


def test_the_example_trains_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "model")
    fresh = ModelConfig(fresh=FreshModel.model_validate(FRESH), tokenizer=str(tmp_path / "model"))
    load_policy(fresh, torch.device("cpu")).model.save_pretrained(tmp_path / "model")
    (example,) = re.findall(r"```py\n(import plaudit\nfrom transformers.*?)```", PAGE, re.DOTALL)
    script = example.replace("runs/quickstart/sft/model", "model")
    script = script.replace('"iterations": 3', '"iterations": 3, "generation": {"max_new_tokens": 4}')
    (tmp_path / "example.py").write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"```\n(rl 1 .*?)```", PAGE, re.DOTALL)[0]
    assert iterations(done.stdout) == iterations(shown) == ["1", "2", "3"]


def iterations(text: str) -> list[str]:
    """Return the numbers of the iterations in lines such as ``rl 1 0.5``."""
    return re.findall(r"^rl ([1-9]\d*) -?\d", text, re.MULTILINE)


def test_the_equation_gives_what_the_page_says() -> None:
    (example, expected) = re.findall(r"(import torch\n.*?)  # (tensor\(.*?\))\n```", PAGE, re.DOTALL)[0]
    setup, _, expression = example.rpartition("\n")
    names: dict[str, object] = {}
    exec(setup, names)
    assert torch.equal(eval(expression, names), eval(expected, {"tensor": torch.tensor}))
