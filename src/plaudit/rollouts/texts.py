"""Converts response tokens to text and cuts responses at stop strings."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of token ids, without special tokens."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def response_text(tokenizer: Any, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> str:
    """Return the text that the response adds to the prompt's text.

    A response decoded alone may lose its first space, which SentencePiece drops at the start of a text. Only if the
    response changes the prompt's text, because the prompt ended inside a character, is the response decoded alone.
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
