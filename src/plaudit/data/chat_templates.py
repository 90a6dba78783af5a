"""Dialogues through a tokenizer's chat template. Prompts and responses are parts of what the template itself writes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from plaudit.data.rows import Message, Origin
from plaudit.data.rows.messages import TOOLS, tools_of
from plaudit.data.special_tokens import SENTINEL, SpecialTokens, Text, unmarked
from plaudit.errors import PlauditError, one_line
from plaudit.memory import is_out_of_memory

_PROBE = "plaudit"


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: Any, special: SpecialTokens) -> None:
        self._tokenizer, self._special = tokenizer, special

    def prompt(self, turns: Sequence[Message], origin: Origin | None) -> Text:
        """Render a prompt up to the beginning of the response; a final turn of the assistant is to be continued.

        Raises PlauditError, with the row's place, if the template fails in any way.
        """
        if turns[-1].role != "assistant":
            return self._render(turns, origin, generation=True)
        opened = (*turns[:-1], replace(turns[-1], content=turns[-1].content + SENTINEL))
        text = self._render(opened, origin)
        end = text.text.rfind(SENTINEL)
        if end < 0:
            raise _rejected(origin, "it leaves out the text of a prompt's last turn, which is to be continued")
        return text.part(0, end)

    def responses(
        self, turns: Sequence[Message], prompt: Text, finals: Sequence[Message], origin: Origin
    ) -> tuple[Text, list[Text]]:
        """Return prompt and responses: what the template writes once one of ``finals`` follows the turns of a prompt.

        The prompt is ``prompt``, without the end that the template writes only where an answer is wanted.
        """
        if self._opens_always:
            raise _rejected(
                origin,
                "it writes the beginning of an answer at the end of every dialogue, even after an answer",
            )
        wholes = [self._render(answered(turns, final), origin) for final in finals]
        cut = min(self._common(prompt.text, whole.text) for whole in wholes)
        if not all(whole.text[cut:].strip() for whole in wholes):
            raise _rejected(origin, "it leaves out the response, or writes it before the end of the prompt")
        return (prompt if cut == len(prompt.text) else wholes[0].part(0, cut)), [whole.part(cut) for whole in wholes]

    def whole(self, dialogue: Sequence[Message], origin: Origin) -> Text:
        """Render a dialogue that ends with its answer."""
        return self._render(dialogue, origin)

    def turn(self, turns: Sequence[Message], number: int, whole: str, origin: Origin) -> tuple[int, int] | None:
        """Return where an earlier turn of the assistant is in the rendered dialogue ``whole``: its start and end.

        None if the template writes this turn, or what comes before it, differently once other turns follow.
        """
        before = self._render(turns[:number], origin, generation=True).text
        after = self._render(turns[: number + 1], origin).text
        end = self._common(after, whole)
        if not whole.startswith(before) or turns[number].content.strip() not in whole[len(before) : end]:
            return None
        return (len(before), end) if end > len(before) else None

    def ends(self) -> tuple[str, ...]:
        """Return the special tokens that the template writes after a turn of the assistant; none if it fails."""
        turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
        try:
            text = self._render(turns, None).text
        except PlauditError:
            return ()  # A template may refuse so short a dialogue, without a system message for example.
        return tuple(self._special.names_in(text[text.rfind(_PROBE) + len(_PROBE) :]))

    @cached_property
    def _opens_always(self) -> bool:
        """Whether the template writes the beginning of an answer also after an answer, which would be learned."""
        roles = ("user", "assistant", "user")
        turns = [Message(role, f"{_PROBE}{number}") for number, role in enumerate(roles)]
        try:
            asked, answered, more = (self._render(turns[:number], None).text for number in (1, 2, 3))
            opened = self._render(turns[:1], None, generation=True).text
        except PlauditError:
            return False  # A template may refuse so short a dialogue.
        if asked != opened or not all(turn.content in more for turn in turns) or turns[1].content not in answered:
            return False
        before_answer, before_question = (_between(more, turns[at].content, turns[at + 1].content) for at in (0, 1))
        end = answered.rpartition(turns[1].content)[2]
        same = _common_length(asked[::-1], answered[::-1])
        opening_is_written = asked.rpartition(turns[0].content)[2].strip() == before_answer.strip()
        return opening_is_written and bool(asked[len(asked) - same :].strip()) and not before_question.startswith(end)

    def _common(self, one: str, other: str) -> int:
        """Return the length of the common beginning of two texts, without a part of a special token."""
        length = len(one) if other.startswith(one) else _common_length(one, other)
        return min(self._special.whole(one, length), self._special.whole(other, length))

    def _render(self, dialogue: Sequence[Message], origin: Origin | None, generation: bool = False) -> Text:
        turns = [message.as_mapping() for message in dialogue if message.role != TOOLS]
        turns, tools, mark = self._special.marked(turns, tools_of(dialogue) or None)
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generation, tools=tools
            )
        except Exception as error:  # A template is a program that may raise anything.
            if is_out_of_memory(error):
                raise
            raise _rejected(origin, one_line(error)) from error
        return unmarked(text, mark)


def answered(turns: Sequence[Message], final: Message) -> tuple[Message, ...]:
    """Return a dialogue with its answer, which continues a last turn of the assistant."""
    if turns[-1].role != "assistant":
        return (*turns, final)
    return (*turns[:-1], replace(final, content=turns[-1].content + final.content))


def end_of_turn_ids(tokenizer: Any) -> frozenset[int]:
    """Return the tokens with which a turn of the assistant ends in the tokenizer's chat template; none without one."""
    if not getattr(tokenizer, "chat_template", None):
        return frozenset()
    names = ChatTemplate(tokenizer, SpecialTokens(tokenizer)).ends()
    return frozenset(tokenizer.convert_tokens_to_ids(name) for name in names)


def _between(text: str, one: str, other: str) -> str:
    """Return what is between two parts of a text."""
    return text.partition(one)[2].partition(other)[0]


def _common_length(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _rejected(origin: Origin | None, reason: str) -> PlauditError:
    where = f"{origin.source} line {origin.line}: " if origin else ""
    return PlauditError(
        f"{where}the chat template rejects the dialogue ({reason}); correct the dialogue or the template, or set "
        "conversation=human_assistant"
    )
