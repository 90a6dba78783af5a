"""Masks secrets in addresses, so that no file or message of a run contains them."""

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from plaudit.config.schema.base import Place

MASK = "***"
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
# A token: long, of the characters of base64, hexadecimal or UUIDs, with letters and digits.
_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_.~%+=-]{20,}")
_SECRET = re.compile(r"tokens?|secrets?|passwords?|api[-_]?keys?", re.IGNORECASE)
"""A part of a path after which a secret comes."""
_MASKED = re.compile(r"\*{3}([0-9a-f]{4})?")


def mask_addresses(value: Any, distinct: bool = False) -> Any:
    """Return nested values in which the secrets of every text that is an address are masked.

    With ``distinct``, 16 bits of a slow hash follow each ``***`` except that of user and password: enough to notice
    that an address has changed, but not enough to find out a secret.
    """
    if isinstance(value, dict):
        return {key: mask_addresses(inner, distinct) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_addresses(inner, distinct) for inner in value]
    return _masked(value, distinct) if isinstance(value, str) and _ADDRESS.fullmatch(value) else value


def masked_places(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield place and text of every address in nested values whose secrets were masked."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from masked_places(inner, (*place, key))
    elif isinstance(value, str) and MASK in value and _ADDRESS.fullmatch(value):
        yield place, value


def mask_in_text(text: str) -> str:
    """Return a text in which the secrets of addresses are ``***``.

    These are user, password, parameters, the query's values, the fragment, and tokens in the path.
    """
    return _ADDRESS.sub(lambda found: _masked(found[0]), text) if "://" in text else text


def _masked(address: str, distinct: bool = False) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # such as an unclosed bracket
        return f"{address.partition('://')[0]}://{MASK}"
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host}" if user or at else host

    def mask(secret: str) -> str:
        return _distinct_mask(secret, host) if distinct else MASK

    if "@" in parts.path and not _has_port(parts.netloc):  # a password with a slash
        return f"{parts.scheme}://{MASK}@{mask_in_text(parts.path.rpartition('@')[2])}"
    pieces = parts.path.split("/")
    path = "/".join(
        mask(piece) if _SECRET.fullmatch(before) and piece else _masked_part(piece, mask)
        for before, piece in zip(["", *pieces], pieces, strict=False)
    )
    query, fragment = parts.query, parts.fragment
    if "=" in query:
        query = re.sub(r"=([^&;]*)", lambda found: f"={mask(found[1])}", query)
    elif query:
        query = mask(query)
    return urlunsplit((parts.scheme, netloc, path, query, fragment and mask(fragment)))


def _has_port(netloc: str) -> bool:
    """Whether what follows the last colon can be a port."""
    _, colon, port = netloc.rpartition(":")
    return not colon or port.isdecimal() or port.endswith("]")


def _masked_part(part: str, mask: Callable[[str], str]) -> str:
    """Return a part of a path in which a token and the values of parameters, as in ``;session=…``, are masked."""
    name, *parameters = part.split(";")
    shown = [mask(name) if _TOKEN.fullmatch(name) else name]
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        shown.append(f"{key}={mask(value)}" if equals else parameter and mask(parameter))
    return ";".join(shown)


@cache
def _distinct_mask(secret: str, host: str) -> str:
    if _MASKED.fullmatch(secret):
        return secret
    return MASK + hashlib.pbkdf2_hmac("sha256", secret.encode(), host.encode(), 100_000).hex()[:4]
