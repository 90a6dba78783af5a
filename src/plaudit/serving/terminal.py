"""A chat on a terminal or through a pipe: reads lines, executes commands, prints replies."""

import sys
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from plaudit.errors import PlauditError
from plaudit.log import visible
from plaudit.plugins import errors_of_user_code
from plaudit.serving.chat_model import ChatModel
from plaudit.serving.conversation import Conversation, Turn

HELP = """\
/why           all candidates of the last turn, with scores and ranks
/save FILE     write the conversation with all candidates as JSON lines
/undo          remove the last turn
/history       show the conversation
/system TEXT   set the system message; without TEXT, remove it
/help          show this
/quit          leave the chat (as does the end of the input)"""


def typed_lines() -> Iterator[str]:
    """Yield the user's lines, with line editing and history on a terminal. Bytes that are not UTF-8 are surrogates."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    import readline  # noqa: F401  # importing it gives input() line editing and history

    while True:
        try:
            yield input("> ")
        except EOFError:
            return


class Terminal:
    """A conversation with a chat model."""

    def __init__(self, chat_model: ChatModel, console: Console) -> None:
        self.chat_model = chat_model
        self.conversation = Conversation()
        self._console = console
        self._commands: dict[str, Callable[[str], None]] = {
            "/why": self._why,
            "/save": self._save,
            "/undo": self._undo,
            "/history": self._history,
            "/system": self._system,
            "/help": lambda _: self._say(HELP),
        }

    def converse(self, lines: Iterator[str]) -> None:
        """Answer each line until the input ends or the user quits; after an error the conversation continues."""
        for line in lines:
            words = line.strip().split(maxsplit=1)
            if words == ["/quit"]:
                return
            try:
                with errors_of_user_code():
                    self._command_or_answer(line, words)
            except PlauditError as error:
                self._say(str(error), "red")
            except KeyboardInterrupt:
                self._say("stopped; /quit leaves", "red")

    def _command_or_answer(self, line: str, words: list[str]) -> None:
        if not words:
            return
        if any("\ud800" <= sign <= "\udfff" for sign in line):
            raise PlauditError("this line holds bytes that are not UTF-8, and was not sent; type it again")
        if not words[0].startswith("/"):
            self._answer(line)
        elif words[0] in self._commands:
            self._commands[words[0]](words[1].strip() if len(words) > 1 else "")
        else:
            raise PlauditError(f"{words[0]}: no such command; /help lists them")

    def _answer(self, line: str) -> None:
        # A single candidate is shown while it is written; the best of several is known only at the end.
        live = self._console.is_terminal and self.chat_model.settings.best_of == 1
        try:
            turn = self.chat_model.answer(self.conversation, line, self._show if live else None)
        finally:
            if live:
                self._console.print()
        self.conversation.add(turn)
        if turn.left_out:
            self._say(f"(the context is full: the first {turn.left_out} turns were left out)", "dim")
        if not live:
            self._say(turn.reply.text)
        if turn.reply.scores:
            self._say(_verdict(turn), "dim")

    def _why(self, _: str) -> None:
        self._console.print(_candidates_table(self._last_turn(), self.chat_model.reward_names))

    def _save(self, file: str) -> None:
        if not file:
            raise PlauditError("/save needs a file: /save conversation.jsonl")
        self.conversation.save(Path(file).expanduser())
        turns = len(self.conversation.turns)
        self._say(f"saved {turns} turn{'s' * (turns != 1)} to {file}", "dim")

    def _undo(self, _: str) -> None:
        self._say(f"removed: {self._last_turn().user}", "dim")
        self.conversation.undo()

    def _history(self, _: str) -> None:
        if self.conversation.system:
            self._say(f"(system) {self.conversation.system}", "dim")
        for turn in self.conversation.turns:
            self._say(f"> {turn.user}", "bold")
            self._say(turn.reply.text)

    def _system(self, text: str) -> None:
        if not self.chat_model.remembers:
            raise PlauditError(
                "this model answers single prompts and does not accept a system message; put it into the prompt"
            )
        self.conversation.system = text or None
        self._say("system message set" if text else "system message removed", "dim")

    def _last_turn(self) -> Turn:
        if not self.conversation.turns:
            raise PlauditError("the conversation is empty; type a message first")
        return self.conversation.turns[-1]

    def _show(self, text: str) -> None:
        self._console.print(Text(text), end="", soft_wrap=True)

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(Text(text, style=style or ""), soft_wrap=True)


def _verdict(turn: Turn) -> str:
    count, reply = len(turn.candidates), turn.reply
    return " · ".join(
        f"{name} {score:.2f}" + (f" (rank {reply.ranks[name]} of {count})" if count > 1 else "")
        for name, score in reply.scores.items()
    )


def _candidates_table(turn: Turn, reward_names: list[str]) -> Table:
    """Return a table of all candidates, best first according to the first source; the reply is marked."""
    table = Table(
        "",
        *(Column(Text(name)) for name in reward_names),
        "tokens",
        "candidate",
        title=Text(visible(turn.user)),
        show_lines=True,
    )
    order = sorted(range(len(turn.candidates)), key=lambda i: next(iter(turn.candidates[i].ranks.values()), i))
    for index in order:
        candidate = turn.candidates[index]
        scores = [f"{candidate.scores[name]:.2f} (rank {candidate.ranks[name]})" for name in reward_names]
        mark = "reply" if index == turn.chosen else ""
        table.add_row(mark, *scores, str(candidate.tokens), Text(visible(candidate.text)))
    return table
