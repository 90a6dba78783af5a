"""A hash of what a function does, to notice that a Python program gives another one under the same name."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

_PLAIN = (str, bytes, int, float, complex, type(None), type(...))


def content_hash(function: Callable[..., Any]) -> str:
    """Return a short hash of a function's code, constants, defaults, and bound and enclosed values.

    Of values other than numbers, texts, containers and functions, only the type counts. Another version of Python may
    give another hash.
    """
    return hashlib.sha256(_content(_parts(function), set()).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _parts(function: Any) -> list[Any]:
    """Return what determines the results of a function, a ``partial``, a bound method or an object with a call."""
    if isinstance(function, partial):
        return [_parts(function.func), function.args, function.keywords]
    if isinstance(function, MethodType):
        return [function.__func__, getattr(function.__self__, "__dict__", None)]
    if isinstance(function, FunctionType):
        closed = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        return [function.__code__, function.__defaults__, function.__kwdefaults__, closed]
    return [type(function).__qualname__, type(function).__call__, getattr(function, "__dict__", None)]


def _content(value: Any, seen: set[int]) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in seen:  # a function may refer to itself
        return "again"
    if isinstance(value, CodeType):
        return _content([value.co_code, value.co_names, value.co_consts], seen)
    if isinstance(value, partial | MethodType | FunctionType):
        return _content(_parts(value), seen | {id(value)})
    inside = seen | {id(value)}
    if isinstance(value, Mapping):
        return f"{{{[_content(part, inside) for pair in value.items() for part in pair]}}}"
    if isinstance(value, set | frozenset):  # their order differs from one process to the next
        return f"{{{sorted(_content(part, inside) for part in value)}}}"
    if isinstance(value, list | tuple):
        return f"{[_content(part, inside) for part in value]}"
    return type(value).__qualname__
