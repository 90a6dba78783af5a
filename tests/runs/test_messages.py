"""Messages of a run in a notebook and in a pipe: plain lines, without the libraries' progress bars."""

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers.utils import logging as transformers_logging

import plaudit
from plaudit import log
from tiny_runs import tiny_recipe


@pytest.fixture
def bars() -> Iterator[None]:
    """Let transformers show progress bars, as it does when a program imports it."""
    transformers_logging.enable_progress_bar()
    log.console.cache_clear()
    yield
    log.console.cache_clear()


@pytest.mark.usefixtures("bars")
@pytest.mark.parametrize("notebook", [True, False])
def test_messages_are_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], notebook: bool
) -> None:
    displayed: list[Any] = []
    if notebook:
        display = ModuleType("IPython.display")
        display.display = lambda *things: displayed.extend(things)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        monkeypatch.setattr(builtins, "get_ipython", type("ZMQInteractiveShell", (), {}), raising=False)
    recipe = tiny_recipe(tmp_path)
    plaudit.run(str(recipe), "pretrain.max_steps=2", "sft.max_steps=2", only=["pretrain", "sft"])
    output = capfd.readouterr()
    assert output.out == ""
    assert displayed == []
    assert not {"\r", "\x1b", "<"} & set(output.err)
    lines = output.err.splitlines()
    # The line of a model names the folder that was loaded, and a bar of transformers would be a line of its own.
    [loaded] = [line for line in lines if line.startswith(f"policy {tmp_path}/runs/tiny/pretrain/model: ")]
    assert "batches" in loaded
    assert [line for line in lines if "oading" in line and not line.startswith("policy")] == []
    assert any(line.startswith("sft 2/2, loss ") and ", held-out loss " in line for line in lines)


@pytest.mark.usefixtures("bars")
def test_bars_are_shown_again_afterwards(tmp_path: Path) -> None:
    plaudit.run(str(tiny_recipe(tmp_path)), "pretrain.max_steps=1", only="pretrain")
    assert transformers_logging.is_progress_bar_enabled()
