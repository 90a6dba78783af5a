"""Plaudit trains a language model from feedback, start to finish."""

from typing import Any

_CALLS = ("run", "world", "pretrain", "sft", "reward", "dpo", "rl", "evaluate", "report", "chat")


def __getattr__(name: str) -> Any:
    """Import the commands' Python functions when they are asked for, so that ``import plaudit`` is quick."""
    if name in _CALLS:
        from plaudit import api

        return getattr(api, name)
    raise AttributeError(f"module 'plaudit' has no attribute {name!r}")
