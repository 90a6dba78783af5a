"""Special tokens as text: strings in the data that look like special tokens stay text, and responses end only once.

Before data goes through a chat template, such strings are marked with a character that no text may hold. The marks show
which special tokens in the rendered text were written by the template.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Ids = list[int]

# Unicode's noncharacters are reserved for internal use. Data that holds one gets another as its mark.
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDEF)]
SENTINEL = chr(0xFDEF)
"""Ends the content of a turn that is to be continued, so that its end is found in the rendered text."""


_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class Text:
    """Text to tokenize. A special token that begins at one of the characters ``literal`` is the data's: it is text."""

    text: str
    literal: tuple[int, ...] = ()

    def __add__(self, other: "Text") -> "Text":
        if not other.literal:
            return Text(self.text + other.text, self.literal)
        return Text(self.text + other.text, (*self.literal, *(len(self.text) + start for start in other.literal)))

    def part(self, start: int, end: int | None = None) -> "Text":
        """Return the characters from ``start`` to ``end``."""
        end = len(self.text) if end is None else end
        literal = tuple(at - start for at in self.literal if start <= at < end) if self.literal else ()
        return Text(self.text[start:end], literal)


class SpecialTokens:
    """The special tokens of a tokenizer, as strings.

    Those in the data stay text, unless ``data_is_text`` is false. In the turns of users and tools, so do the added
    tokens that the chat template writes, such as the names of speakers.
    """

    def __init__(self, tokenizer: Any, data_is_text: bool = True) -> None:
        added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.content.strip()}
        special = {name for name, token in added.items() if token.special} | set(tokenizer.all_special_tokens)
        template = _template_text(tokenizer)
        self._of_template = _any_of(special | {name for name in added if name in template})
        self._in_data = _any_of(special) if data_is_text else None
        self._in_turns = self._of_template if data_is_text else None
        self._added = added
        self._any = _any_of(special | added.keys())
        self._tokenizer = tokenizer

    def as_text(self, text: str) -> Text:
        """Return a text of the data, in which special tokens are text."""
        if self._in_data is None or self._in_data.search(text) is None:
            return Text(text)
        return Text(text, tuple(match.start() for match in self._in_data.finditer(text)))

    def marked(self, turns: list[dict[str, Any]], tools: list[Any] | None) -> tuple[list[Any], list[Any] | None, str]:
        """Return turns and tools with marks in what looks like special tokens, and the mark; "" if nothing does.

        The answers of the assistant may hold added tokens that are not special, such as those around its thoughts.
        """
        if not any(self._pattern(turn).search(text) for turn in [*turns, {"tools": tools}] for text in _strings(turn)):
            return turns, tools, ""
        characters = set().union(*map(set, _strings([turns, tools])))
        mark = next(mark for mark in _MARKS if mark not in characters)
        marked = [_marked(turn, self._pattern(turn), mark) for turn in turns]
        return marked, None if tools is None else _marked(tools, self._pattern({}), mark), mark

    def _pattern(self, turn: Mapping[str, Any]) -> re.Pattern[str]:
        pattern = self._in_data if turn.get("role") == "assistant" else self._in_turns
        return pattern or _NOTHING

    def whole(self, text: str, cut: int) -> int:
        """Return ``cut``, or the beginning of the special token that would be cut there."""
        if self._of_template is not None:
            for match in self._of_template.finditer(text, max(0, cut - 200)):
                if match.start() < cut < match.end():
                    return match.start()
                if match.start() >= cut:
                    break
        return cut

    def names_in(self, text: str) -> list[str]:
        """Return the special tokens that occur in a text, in order."""
        return [] if self._of_template is None else [match[0] for match in self._of_template.finditer(text)]

    def encode(self, text: Text, special_tokens: bool) -> Ids:
        """Tokenize a text with literal parts; ``special_tokens`` adds what the tokenizer adds to every text."""
        body: Ids = []
        start, skips_space = 0, False
        for match in self._any.finditer(text.text) if self._any is not None else ():
            if match.start() in text.literal:
                continue
            token = self._added.get(match[0])
            between = text.text[start : match.start()]
            between = between.lstrip() if skips_space else between
            body += self._plain(between.rstrip() if token is not None and token.lstrip else between, start == 0)
            body.append(self._tokenizer.convert_tokens_to_ids(match[0]))
            start, skips_space = match.end(), token is not None and token.rstrip
        rest = text.text[start:]
        body += self._plain(rest.lstrip() if skips_space else rest, start == 0)
        if not special_tokens:
            return body
        within = self._tokenizer("a", add_special_tokens=True)["input_ids"]
        alone = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        before = next((at for at in range(len(within)) if within[at : at + len(alone)] == alone), 0)
        return [*within[:before], *body]

    def _plain(self, text: str, first: bool) -> Ids:
        """Tokenize a part of a text without added tokens. Some tokenizers add a space only at the start of a text."""
        if not text:
            return []
        if first or self._spaces_every_part():
            return self._without_added_tokens(text)
        line_break = self._without_added_tokens("\n")
        after = self._without_added_tokens("\n" + text)
        if after[: len(line_break)] == line_break:
            return after[len(line_break) :]
        return self._without_added_tokens(text)

    def _spaces_every_part(self) -> bool:
        """Return whether the part after a special token is tokenized like the start of a text."""
        name = next(iter(self._added), None)
        if name is None:
            return True
        joint = self._tokenizer(name + "a", add_special_tokens=False)["input_ids"]
        return bool(joint[1:] == self._tokenizer("a", add_special_tokens=False)["input_ids"])

    def _without_added_tokens(self, text: str) -> Ids:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            ids: Ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            return ids
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        parts = [text]
        if backend.pre_tokenizer is not None:
            parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for part in parts for token in backend.model.tokenize(part)]


def unmarked(text: str, mark: str) -> Text:
    """Return a rendered text without its marks."""
    if not mark or mark not in text:
        return Text(text)
    pieces = text.split(mark)
    starts, length = [], 0
    for piece in pieces[:-1]:
        length += len(piece)
        starts.append(length - 1)
    return Text("".join(pieces), tuple(starts))


def _any_of(names: set[str]) -> re.Pattern[str] | None:
    wanted = sorted((name for name in names if name.strip()), key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, wanted))) if wanted else None


def _template_text(tokenizer: Any) -> str:
    template = tokenizer.chat_template or ""
    return "\n".join(template.values()) if isinstance(template, Mapping) else template


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _marked(value: Any, pattern: re.Pattern[str], mark: str) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda match: match[0][0] + mark + match[0][1:], value)
    if isinstance(value, Mapping):
        return {key: _marked(inner, pattern, mark) for key, inner in value.items()}
    return [_marked(inner, pattern, mark) for inner in value] if isinstance(value, list | tuple) else value
