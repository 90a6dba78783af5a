"""Runs ``plaudit`` with arguments in this process."""

import sys
from typing import Any

import pytest

from plaudit.cli.main import main


def run_command(capture: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and error output; ``capture`` is pytest's capsys or capfd."""
    monkeypatch.setattr(sys, "argv", ["plaudit", *arguments])
    capture.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    output = capture.readouterr()
    return int(ended.value.code or 0), output.out, output.err
