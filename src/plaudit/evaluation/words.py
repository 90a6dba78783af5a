"""Words of a text in any script."""

import re

# Thai, Lao, Burmese, Khmer, Chinese and Japanese are written without spaces; symbols and emoji need none.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2190-\u2bff\u2e80-\u2fff\u3005-\u3007\u3021-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U0001b000-\U0001b16f\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\W{_WITHOUT_SPACES}]+")
_UNIT = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+")


def words(text: str) -> list[str]:
    """Return runs of letters and digits; in scripts without spaces between words, each character is one word."""
    return _WORD.findall(text)


def units(text: str) -> list[str]:
    """Return what spaces separate, punctuation included; in scripts without spaces, each character."""
    return _UNIT.findall(text)
