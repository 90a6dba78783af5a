"""Rows as JSON, for the store of rows."""

import json
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from plaudit.data.rows import Origin, Row

R = TypeVar("R", bound=Row)


@lru_cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def encoded(row: Row) -> bytes:
    """Return a row without its origin as JSON. Dates and bytes among its other columns become text."""
    return _adapter(type(row)).dump_json(row, exclude={"origin"})


def decoded(content: bytes, kind: type[R], origin: Origin) -> R:
    """Return the row of a kind that was encoded, with its origin."""
    given = json.dumps({"source": origin.source, "line": origin.line}).encode()
    row: R = _adapter(kind).validate_json(b'{"origin":' + given + b"," + content[1:])
    return row
