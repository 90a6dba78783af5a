"""The output of a conversation on a screen and in a pipe."""

from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plaudit.errors import PlauditError
from plaudit.log import new_console, visible
from plaudit.serving.conversation import Candidate, Conversation, Turn
from plaudit.serving.terminal import Terminal, typed_lines


class Speaker:
    """Answers "one [b]two" in two parts and records the screen before each."""

    def __init__(self, console: Console, best_of: int) -> None:
        self.settings = SimpleNamespace(best_of=best_of)
        self.console: Any = console
        self.screens: list[str] = []

    def answer(self, conversation: Conversation, user: str, show: Callable[[str], None] | None = None) -> Turn:
        if user == "fail":
            raise PlauditError("the message is too long")
        for part in ("one ", "[b]two"):
            self.screens.append(self.console.file.getvalue())
            if show is not None:
                show(part)
        candidate = Candidate("one [b]two", 2, True, {"good": 0.5}, {"good": 1})
        return Turn(user, (candidate,) * self.settings.best_of, 0, left_out=1)


def talk(terminal: bool, best_of: int, *lines: str) -> Speaker:
    console = Console(file=StringIO(), force_terminal=terminal, color_system=None, width=20)
    speaker: Any = Speaker(console, best_of)
    Terminal(speaker, console).converse(iter(lines))
    result: Speaker = speaker
    return result


NOTE = "(the context is full: the first 1 turns were left out)\n"


@pytest.mark.parametrize("terminal, best_of", [(False, 1), (False, 2), (True, 2)])
def test_a_whole_reply_is_written_at_the_end(terminal: bool, best_of: int) -> None:
    speaker = talk(terminal, best_of, "hello")
    assert speaker.screens == ["", ""]
    rank = "" if best_of == 1 else " (rank 1 of 2)"
    assert speaker.console.file.getvalue() == f"{NOTE}one [b]two\ngood 0.50{rank}\n"


def test_a_single_candidate_appears_on_a_screen_while_it_is_written() -> None:
    speaker = talk(True, 1, "hello")
    assert speaker.screens == ["", "one "]
    assert speaker.console.file.getvalue() == f"one [b]two\n{NOTE}good 0.50\n"


def test_a_line_with_bytes_that_are_not_utf8_is_not_sent_and_the_conversation_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"caf\xe9\nhello\n"), encoding="utf-8"))
    speaker = talk(False, 1, *typed_lines())
    lines = speaker.console.file.getvalue().splitlines()
    assert lines[0] == "this line holds bytes that are not UTF-8, and was not sent; type it again"
    assert "one [b]two" in lines


def test_control_characters_of_a_reply_are_shown_as_escapes() -> None:
    console = new_console()
    console.file = output = StringIO()
    console.width = 80
    table = Table("a")
    table.add_row(Text(visible("\x1b]52;c;x\x07")))
    console.print(Text("\x1b[2J\x9b1m \u202e\tx\ny"), table)
    shown = output.getvalue()
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert shown.startswith("\\x1b[2J\\x9b1m \\u202e")
    assert "\\x1b]52;c;x\\x07" in shown


def test_the_conversation_goes_on_after_an_error() -> None:
    speaker = talk(True, 1, "fail", "hello")
    assert speaker.console.file.getvalue().splitlines()[-3:-2] == ["one [b]two"]
    assert "the message is too long\n" in speaker.console.file.getvalue()
