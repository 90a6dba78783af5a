"""Converts response tokens to text and cuts responses at stop strings."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"  # the decoder's output for bytes that are not a whole character
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A single byte in the vocabulary of a SentencePiece tokenizer."""


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of token ids, without special tokens."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def response_text(tokenizer: Any, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> str:
    """Return the text that the response adds to the prompt's text.

    Prompt and response are decoded together, because SentencePiece drops the first space of a text. If the response
    changes the prompt's text (the prompt ended inside a character), the response is decoded separately.
    """
    before = decode(tokenizer, prompt_ids)
    both = decode(tokenizer, [*prompt_ids, *response_ids])
    return both[len(before) :] if both.startswith(before) else decode(tokenizer, response_ids)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the earliest stop string begins, or None."""
    starts = [text.find(stop) for stop in stops]
    return min((start for start in starts if start >= 0), default=None)


def cut_at_stop(
    tokenizer: Any, prompt_ids: Sequence[int], response_ids: Sequence[int], stops: Sequence[str]
) -> tuple[int, str] | None:
    """Return the number of tokens up to the end of the first stop string, and the text before it; None without one."""
    text = response_text(tokenizer, prompt_ids, response_ids)
    if first_stop(text, stops) is None:
        return None

    def stops_within(length: int) -> bool:
        return first_stop(response_text(tokenizer, prompt_ids, response_ids[:length]), stops) is not None

    length = bisect_left(range(len(response_ids)), True, key=stops_within)
    text = response_text(tokenizer, prompt_ids, response_ids[:length])
    return length, text[: first_stop(text, stops)]


def may_hold_stop(tokenizer: Any, response_ids: Sequence[int], stops: Sequence[str], new_tokens: int) -> bool:
    """Return, from a cheap check, whether a stop string may have ended within the last ``new_tokens`` tokens.

    A stop string of n bytes has at most n tokens with text, so only a tail of that length is decoded. A wrong result
    costs only time and does not change responses, because ``cut_at_stop`` decides.
    """
    longest = max(len(stop.encode()) for stop in stops)
    return first_stop(decode(tokenizer, response_ids[-(longest + new_tokens) :]), stops) is not None


class ResponseStream:
    """A response that grows token by token, and how much of it is final.

    Later tokens do not change final text. It does not end within a character or with a possible beginning of a stop
    string. Tokens after a stop string are never final, because they are cut off.
    """

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer, self._prompt_ids, self._stops = tokenizer, prompt_ids, stops
        self._tokens = 0
        self._text = ""
        self._has_stopped = False

    def grow(self, response_ids: Sequence[int]) -> tuple[tuple[int, ...], str] | None:
        """Return the tokens and text that have become final, given all tokens so far; None after a stop string."""
        if not self._has_stopped and self._stops:
            whole = response_text(self._tokenizer, self._prompt_ids, response_ids)
            self._has_stopped = first_stop(whole, self._stops) is not None
        return None if self._has_stopped else self.rest(response_ids, self._final_text(response_ids))

    def rest(self, response_ids: Sequence[int], text: str) -> tuple[tuple[int, ...], str]:
        """Return the part of the given tokens and text that has not been returned before."""
        new = tuple(response_ids[self._tokens :]), text[len(self._text) :]
        self._tokens, self._text = len(response_ids), max(self._text, text, key=len)
        return new

    def _final_text(self, response_ids: Sequence[int]) -> str:
        length = len(response_ids)
        # Consecutive bytes are decoded together: an invalid one at the end changes the text of all of them.
        while length and self._is_byte(response_ids[length - 1]):
            length -= 1
        text = response_text(self._tokenizer, self._prompt_ids, response_ids[:length]).rstrip(UNFINISHED)
        return text[: len(text) - longest_stop_beginning(text, self._stops)]

    def _is_byte(self, token: int) -> bool:
        name = self._tokenizer.convert_ids_to_tokens(token)  # None where the model has more tokens than the tokenizer
        return name is not None and _BYTE.fullmatch(name) is not None


def longest_stop_beginning(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest suffix of ``text`` that is the beginning of a stop string."""
    return max((length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])), default=0)
