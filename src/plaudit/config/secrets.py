"""Masks secrets in addresses, so that no file or message of a run contains them."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

MASK = "***"
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
# A token: long, of the characters of base64, hexadecimal or UUIDs, with letters and digits.
_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_.~%+=-]{20,}")


def mask_addresses(value: Any) -> Any:
    """Return nested values in which the secrets of every text that is an address are masked."""
    if isinstance(value, dict):
        return {key: mask_addresses(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_addresses(inner) for inner in value]
    return _masked(value) if isinstance(value, str) and _ADDRESS.fullmatch(value) else value


def mask_in_text(text: str) -> str:
    """Return a text in which user, password, the query's values, the fragment and tokens of addresses are ``***``."""
    return _ADDRESS.sub(lambda found: _masked(found[0]), text) if "://" in text else text


def _masked(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # such as an unclosed bracket
        return f"{address.partition('://')[0]}://{MASK}"
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host}" if user or at else host
    path = "/".join(MASK if _TOKEN.fullmatch(part) else part for part in parts.path.split("/"))
    query = re.sub(r"=[^&;]*", f"={MASK}", parts.query) if "=" in parts.query else MASK * bool(parts.query)
    return urlunsplit((parts.scheme, netloc, path, query, MASK if parts.fragment else ""))
