"""Prompts and responses as text: plain templates, the tokenizer's chat template, or Human/Assistant turns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.config.schema import DataConfig
from plaudit.data.chat_templates import ChatTemplate, answered
from plaudit.data.rows import Message, Origin, ResponseRow, Row
from plaudit.data.rows.base import PromptKind
from plaudit.data.special_tokens import SpecialTokens, Text
from plaudit.data.template_checks import UnfaithfulError, check_last_turn, check_probes, check_response, holds, probed
from plaudit.errors import PlauditError

NO_TEMPLATE = DataConfig.model_fields["prompt_template"].default
_SPEAKERS = {"user": "Human", "assistant": "Assistant"}

# What is counted while rows are rendered, in the words of the log.
ENDED = "responses already ended with the end token"
LITERAL = "rows hold the text of special tokens, which stays text"
CONTINUED = "prompts end with a turn of the assistant, which the response continues"
DOUBLE = "dialogues dropped: two turns of the assistant in a row"
SPLIT = "earlier turns learned as separate examples: the chat template changes them once other turns follow"
CUT = "prompts whose end the chat template writes before an answer alone: it is not a part of the trained dialogue"
SPACED = "rows with a response of which the chat template changes the white space"
CHANGED_TURN = "dialogues with an earlier turn that the chat template changes"
BYPASSED = "plain prompts bypass the tokenizer's chat template"
UNTEMPLATED = "dialogues are not put into prompt_template, which is for plain prompts"


@dataclass(frozen=True)
class Part:
    """A part of a response; ``learned`` is False for what is only read, such as a user's turn."""

    text: Text
    learned: bool = True


@dataclass(frozen=True)
class Rendered:
    """A prompt and its responses as text; ``special_tokens``: whether it already contains its special tokens."""

    prompt: Text
    responses: tuple[tuple[Part, ...], ...] = ()
    special_tokens: bool = False


class Renderer:
    """Renders rows for a tokenizer.

    ``counted``: what was noticed on the way, and how often. ``unfaithful``: the first row that the chat template does
    not write as it is, in words; "" without one.
    """

    def __init__(self, tokenizer: Any, config: DataConfig) -> None:
        self.counted: Counter[str] = Counter()
        self.unfaithful = ""
        self.special = SpecialTokens(tokenizer, data_is_text=config.special_tokens == "text")
        self._tokenizer, self._config = tokenizer, config
        self._chat = ChatTemplate(tokenizer, self.special) if tokenizer.chat_template else None
        ends = (tokenizer.eos_token, *(self._chat.ends() if self._chat else ()))
        self.ends: tuple[str, ...] = tuple(end for end in dict.fromkeys(ends) if end)

    def text(self, text: str) -> Text:
        """Return a plain text without the end token that it may end with."""
        found = self._data(self._without_end(text))
        self.counted[LITERAL] += bool(found.literal)
        return found

    def render(self, row: Row) -> list[Rendered]:
        """Return a row as text: usually one prompt with its responses, none if the row cannot be rendered.

        Plain text is put into ``prompt_template``. Dialogues are rendered with the tokenizer's chat template or as
        Human/Assistant turns, depending on ``conversation``. A dialogue is dropped if the template leaves out a part of
        it or changes its response. Raises PlauditError if the template is missing or fails.
        """
        prompt, responses = row.prompt, tuple(map(self._without_end, row.responses))
        assert prompt is not None
        final = row.final if isinstance(row, ResponseRow) else None
        if isinstance(prompt, str):
            self.counted[BYPASSED] += self._chat is not None
            found = [self._plain(prompt, responses, row.parts if isinstance(row, ResponseRow) else None)]
        elif isinstance(row, ResponseRow) and prompt[-1].role == "assistant" and prompt[-1].learned:
            self.counted[DOUBLE] += 1
            return []
        else:
            self.counted[UNTEMPLATED] += self._config.prompt_template != NO_TEMPLATE
            self.counted[CONTINUED] += prompt[-1].role == "assistant"
            turns = tuple(map(self._clean, prompt))
            finals = [final or Message("assistant", response) for response in responses]
            if uses_chat_template(self._tokenizer, self._config):
                try:
                    found = self._chat_dialogue(turns, finals, row)
                except UnfaithfulError as error:
                    self.counted[error.reason] += 1
                    self.unfaithful = self.unfaithful or f"line {row.origin.line}: {error}"
                    return []
            else:
                found = [self._human_assistant(turns, finals, isinstance(row, ResponseRow))]
        self.counted[LITERAL] += any(
            rendered.prompt.literal or any(part.text.literal for parts in rendered.responses for part in parts)
            for rendered in found
        )
        return found

    def _plain(self, prompt: str, responses: Sequence[str], parts: Sequence[tuple[str, bool]] | None) -> Rendered:
        if "{prompt}" not in self._config.prompt_template:
            raise PlauditError("prompt_template does not contain {prompt}; put {prompt} where the prompt belongs")
        data = self._data(prompt)
        if data.literal:
            first, *others = self._config.prompt_template.split("{prompt}")
            text = Text(first)
            for other in others:
                text = text + data + Text(other)
        else:
            text = Text(self._config.prompt_template.replace("{prompt}", prompt))
        if parts:
            before = [Part(self._data(part), learned) for part, learned in parts[:-1]]
            last = responses[0][sum(len(part.text.text) for part in before) :]  # without its end token
            return Rendered(text, ((*before, Part(self._data(last))),))
        return Rendered(text, tuple((Part(self._data(response)),) for response in responses))

    def _human_assistant(self, turns: Sequence[Message], finals: Sequence[Message], learn: bool) -> Rendered:
        """Return turns in the format of HH-RLHF (Bai et al. 2022); earlier turns that are learned have no end token."""
        parts: list[Part] = []
        text = Text("")
        for message in turns:
            content = self._data(message.text)
            speaker = _SPEAKERS.get(message.role)
            if speaker is not None:
                text = text + Text(f"\n\n{speaker}:")
            if learn and message.learned:
                parts += [Part(text, False), Part(Text(" ") + content)]
                text = Text("")
            else:
                text = text + (Text(" ") if speaker else Text("")) + content
        continued = turns[-1].role == "assistant"
        text = text if continued else text + Text("\n\nAssistant:")
        separator = Text("" if continued else " ")
        if not parts:
            return Rendered(text, tuple((Part(separator + self._data(final.text)),) for final in finals))
        [final] = finals
        parts += [Part(text, False), Part(separator + self._data(final.text))]
        return Rendered(parts[0].text, (tuple(parts[1:]),))

    def _chat_dialogue(self, turns: tuple[Message, ...], finals: Sequence[Message], row: Row) -> list[Rendered]:
        assert self._chat is not None
        judged = not isinstance(row, ResponseRow)
        prompt = self._chat.prompt(turns, row.origin)
        if not finals:
            self._check_turns(turns, None, prompt, row.origin)
            return [Rendered(prompt, (), True)]
        before, responses = self._chat.responses(turns, prompt, finals, row.origin)
        self.counted[CUT] += before.text != prompt.text
        self._check(turns, finals, before, responses, row.origin)
        learned = [number for number, turn in enumerate(turns[:-1]) if turn.learned and not judged]
        if learned:
            return self._learned_turns(turns, learned, before, before + responses[0], row.origin)
        parts = tuple((Part(self._until_end(response) if judged else response),) for response in responses)
        return [Rendered(before, parts, True)]

    def _learned_turns(
        self, turns: tuple[Message, ...], learned: Sequence[int], before: Text, whole: Text, origin: Origin
    ) -> list[Rendered]:
        """Return the dialogue with all turns to learn, and a separate example for each turn that it does not hold."""
        assert self._chat is not None
        found: list[Rendered] = []
        parts: list[Part] = []
        at = 0
        for number in learned:
            place = self._chat.turn(turns, number, whole.text, origin)
            if place is None:
                self.counted[SPLIT] += 1
                prompt = self._chat.prompt(turns[:number], origin)
                start, [response] = self._chat.responses(turns[:number], prompt, [turns[number]], origin)
                self._check(turns[:number], [turns[number]], start, [response], origin)
                found.append(Rendered(start, ((Part(response),),), True))
                continue
            parts += [Part(whole.part(at, place[0]), False), Part(whole.part(*place))]
            at = place[1]
        parts += [Part(whole.part(at, len(before.text)), False), Part(whole.part(len(before.text)))]
        return [*found, Rendered(parts[0].text, (tuple(parts[1:]),), True)]

    def _check(
        self, turns: Sequence[Message], finals: Sequence[Message], before: Text, responses: Sequence[Text], at: Origin
    ) -> None:
        """Raise UnfaithfulError if the template does not write what a dialogue and its responses hold."""
        for final, response in zip(finals, responses, strict=True):
            check_response(final, response.text)
        if turns[-1].role not in ("assistant", "tool", "tools"):
            check_last_turn(turns[-1], before.text, [response.text for response in responses])
        self.counted[SPACED] += any(
            final.content.strip() not in response.text for final, response in zip(finals, responses, strict=True)
        )
        self._check_turns(turns, finals[0], before, at)

    def _check_turns(self, turns: Sequence[Message], final: Message | None, before: Text, origin: Origin) -> None:
        """Raise UnfaithfulError if the template leaves out a turn, call, result or function; count changed turns.

        What may have been left out is rendered again with probes in its place.
        """
        assert self._chat is not None
        texts = [number for number, turn in enumerate(turns) if turn.role not in ("tool", "tools")]
        in_doubt = [number for number in texts if not holds(before.text, turns[number].content)]
        dialogue = turns if final is None else (*turns, final)
        again, probes = probed(dialogue, in_doubt)
        if probes:
            whole = again if final is None else answered(again[:-1], again[-1])
            written = self._chat.prompt(whole, origin) if final is None else self._chat.whole(whole, origin)
            check_probes(probes, written.text)
        self.counted[CHANGED_TURN] += bool(in_doubt)

    def _until_end(self, response: Text) -> Text:
        """Return a judged response without what the template writes after its end: scores are read at the end."""
        text = response.text.rstrip()
        return response.part(0, len(text)) if text.endswith(self.ends) else response

    def _clean(self, message: Message) -> Message:
        if message.role != "assistant" or not message.content.rstrip().endswith(self.ends):
            return message
        content = self._without_end(message.content)
        return Message(
            message.role, content, message.name, message.tool_calls, message.tool_call_id, learned=message.learned
        )

    def _data(self, text: str) -> Text:
        return self.special.as_text(text)

    def _without_end(self, text: str) -> str:
        stripped = text.rstrip()
        if not self.ends or not stripped.endswith(self.ends):
            return text
        self.counted[ENDED] += 1
        while end := next((end for end in self.ends if stripped.endswith(end)), ""):
            text = stripped.removesuffix(end)
            stripped = text.rstrip()
        return text


def uses_chat_template(tokenizer: Any, config: DataConfig) -> bool:
    """Return whether dialogues use the tokenizer's chat template. Raises PlauditError if a required one is missing."""
    if config.conversation == "chat_template" and not tokenizer.chat_template:
        raise PlauditError(
            "conversation=chat_template, but the tokenizer has no chat template; set model.chat_template, or "
            "conversation=human_assistant"
        )
    return config.conversation != "human_assistant" and bool(tokenizer.chat_template)


def check_prompt_template(kinds: Counter[PromptKind], config: DataConfig, place: str, source: str) -> None:
    """Raise PlauditError if a prompt template is set, but no row has a plain prompt to put into it.

    ``kinds`` counts the rows by the kind of their prompt.
    """
    if config.prompt_template != NO_TEMPLATE and kinds and not kinds["plain"]:
        kind = "dialogues" if kinds["dialogue"] else "plain text without prompts"
        raise PlauditError(
            f"{place}.prompt_template: {source} holds {kind}, and a prompt template applies to plain "
            f"prompts alone; remove it{', or set chat_template next to model.path' if kind == 'dialogues' else ''}"
        )


def human_assistant_text(prompt: Sequence[Message]) -> str:
    """Return a dialogue in the format of HH-RLHF, up to the final "Assistant:" (Bai et al. 2022)."""
    return "".join(_turn(message) for message in prompt) + "\n\nAssistant:"


def _turn(message: Message) -> str:
    speaker = _SPEAKERS.get(message.role)
    return f"\n\n{speaker}: {message.text}" if speaker else message.text
