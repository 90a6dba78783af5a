"""Tokenizes rendered texts in batches. A response is the continuation of its prompt's tokens."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from plaudit.data.special_tokens import Ids, SpecialTokens, Text
from plaudit.data.templates import Rendered

logger = logging.getLogger(__name__)

TRIAL = 1000
_AT_ONCE = 512  # texts: what the library returns takes much more memory than the tokens
_CONTEXT = 16  # characters before a part that are tokenized again with it


@dataclass(frozen=True)
class Continuation:
    """A part of a response, and what is before it as text and as tokens."""

    before: Text
    ids: Ids
    part: Text
    special_tokens: bool

    @property
    def joint(self) -> Text:
        """The text up to the end of the part."""
        return self.before + self.part


class Continued(NamedTuple):
    """The tokens of a part, None if one of them spans its beginning; and ``whole``, if the whole text was tokenized."""

    own: Ids | None
    whole: Ids | None = None

    def joint(self, given: Continuation) -> Ids:
        """Return the tokens up to the end of the part."""
        return [*given.ids, *(self.own or ())] if self.whole is None else self.whole


class Encoder:
    """Tokenizes the texts of one data set.

    ``each_text_once``: whether a part is tokenized with the last words before it alone, rather than with all that is
    before it. The first ``TRIAL`` parts decide: they are tokenized in both ways, and must give the same tokens. None
    until then.
    """

    def __init__(self, special: SpecialTokens, tokenizer: Any, each_text_once: bool | None = None) -> None:
        self.special, self.tokenizer, self.each_text_once = special, tokenizer, each_text_once
        if _model_of(tokenizer) != "BPE":  # only its merges are local
            self.each_text_once = False

    def encode(self, texts: Sequence[tuple[Text, bool]]) -> list[Ids]:
        """Tokenize texts; those without their own special tokens (the flag) get what the tokenizer adds, but no EOS."""
        plain = iter(self._batch([t.text for t, own in texts if not own and not t.literal], special_tokens=True))
        chat = iter(self._batch([t.text for t, own in texts if own and not t.literal], special_tokens=False))
        return [
            self.special.encode(text, special_tokens=not own) if text.literal else next(chat) if own else next(plain)
            for text, own in texts
        ]

    def encode_parts(self, all_rendered: Sequence[Rendered], prompts: Sequence[Ids]) -> list[list[Ids]]:
        """Tokenize the parts of all responses, each as the continuation of what is before it.

        Returns the parts of every response, in order. Text and continuation are tokenized together and split after the
        tokens of the text. If a token spans the boundary, the part is tokenized after a line break instead, because
        some tokenizers add a space at the start of a text.
        """
        responses = [
            (Continuation(rendered.prompt, prompt, parts[0].text, rendered.special_tokens), parts)
            for rendered, prompt in zip(all_rendered, prompts, strict=True)
            for parts in rendered.responses
        ]
        found: list[list[Ids]] = [[] for _ in responses]
        level = dict(enumerate(given for given, _ in responses))
        while level:
            continued = self._continued(list(level.values()))
            pairs = zip(level.values(), continued, strict=True)
            alone = iter(self._alone([given.part for given, done in pairs if done.own is None]))
            following: dict[int, Continuation] = {}
            for (number, given), done in zip(level.items(), continued, strict=True):
                found[number].append(next(alone) if done.own is None else done.own)
                parts = responses[number][1]
                if len(found[number]) < len(parts):
                    part = parts[len(found[number])].text
                    following[number] = Continuation(given.joint, done.joint(given), part, given.special_tokens)
            level = following
        return found

    def _continued(self, given: Sequence[Continuation]) -> list[Continued]:
        """Tokenize every part as the continuation of what is before it."""
        if self.each_text_once is None and len(given) >= TRIAL:
            self.each_text_once = self._try(given[:TRIAL])
        if not self.each_text_once:
            return self._completely(given)
        found = self._with_last_words(given)
        rest = iter(self._completely([each for each, done in zip(given, found, strict=True) if done is None]))
        return [next(rest) if done is None else done for done in found]

    def _try(self, given: Sequence[Continuation]) -> bool:
        """Return whether parts may be tokenized with the last words alone, and whether this usually works."""
        found, whole = self._with_last_words(given), self._completely(given)
        same = all(done is None or done.own == expected.own for done, expected in zip(found, whole, strict=True))
        each_text_once = same and 2 * found.count(None) < len(found)
        how = "each text once" if each_text_once else "each response with its prompt"
        logger.info("tokenizing %s, after a trial with %d responses", how, len(given))
        return each_text_once

    def _completely(self, given: Sequence[Continuation]) -> list[Continued]:
        joint = self.encode([(each.joint, each.special_tokens) for each in given])
        return [
            Continued(ids[len(each.ids) :] if _continues(ids, each.ids) else None, ids)
            for each, ids in zip(given, joint, strict=True)
        ]

    def _with_last_words(self, given: Sequence[Continuation]) -> list[Continued | None]:
        """Tokenize each part with the last words before it; None where those do not have the tokens they had before."""
        words = [_last_words(each) for each in given]
        distinct = list(dict.fromkeys(filter(None, words)))
        alone = dict(zip(distinct, self._batch(distinct, special_tokens=False), strict=True))
        texts = [text + each.part.text for text, each in zip(words, given, strict=True) if text]
        continued = iter(self._batch(texts, special_tokens=False))
        found: list[Continued | None] = []
        for each, text in zip(given, words, strict=True):
            before, ids = alone.get(text, []), next(continued) if text else []
            length = len(before)
            same = length and each.ids[-length:] == before and ids[:length] == before
            found.append(Continued(ids[length:]) if same else None)
        return found

    def _alone(self, parts: Sequence[Text]) -> list[Ids]:
        """Tokenize parts after a line break, or as they are where that changes the line break's token."""
        if not parts:
            return []
        [line_break] = self._batch(["\n"], special_tokens=False)
        after = self.encode([(Text("\n") + part, True) for part in parts])
        changed = [part for part, ids in zip(parts, after, strict=True) if not _continues(ids, line_break)]
        alone = iter(self.encode([(part, True) for part in changed]))
        return [ids[len(line_break) :] if _continues(ids, line_break) else next(alone) for ids in after]

    def _batch(self, texts: Sequence[str], special_tokens: bool) -> list[Ids]:
        """Tokenize texts in one batch, without the EOS token that some tokenizers add at the end."""
        if not texts:
            return []
        ends = 1 if special_tokens and self._adds_eos() else 0
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            # verbose=False: the caller applies the limits that the tokenizer may warn about.
            all_ids = self.tokenizer(list(texts), add_special_tokens=special_tokens, verbose=False)["input_ids"]
        else:
            backend.no_truncation()
            backend.no_padding()
            all_ids = [
                encoding.ids
                for start in range(0, len(texts), _AT_ONCE)
                for encoding in backend.encode_batch_fast(
                    texts[start : start + _AT_ONCE], add_special_tokens=special_tokens
                )
            ]
        return [ids[: len(ids) - ends] for ids in all_ids] if ends else all_ids

    def _adds_eos(self) -> bool:
        with_special: Ids = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        without: Ids = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        return bool(with_special[-1] == self.tokenizer.eos_token_id) and with_special[-len(without) :] != without


def _model_of(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return "" if backend is None else type(backend.model).__name__


def _continues(ids: Ids, before: Ids) -> bool:
    return ids[: len(before)] == before


def _last_words(given: Continuation) -> str:
    """Return the last words before a part, from a single space on; nothing if there is none, or in literal text."""
    if given.before.literal or given.part.literal:
        return ""
    text = given.before.text
    position = text.rfind(" ", 0, max(len(text) - _CONTEXT, 0))
    while position > 0 and (text[position - 1].isspace() or text[position + 1].isspace()):
        position = text.rfind(" ", 0, position)
    return text[position:] if position > 0 else ""
