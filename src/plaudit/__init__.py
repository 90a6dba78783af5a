"""Plaudit trains a language model from feedback, start to finish.

Importing it is fast: heavy libraries are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.api import (
        chat,
        dpo,
        evaluate,
        iterate,
        load_policy,
        load_reward,
        pretrain,
        report,
        reward,
        rl,
        run,
        sft,
        world,
    )
    from plaudit.config.load import load_recipe
    from plaudit.config.schema import Recipe
    from plaudit.errors import Interrupted, PlauditError, Stop
    from plaudit.runs.run import Run
    from plaudit.serving.policy import Generation, Policy
    from plaudit.serving.reward import Reward

    __version__: str

__all__ = [
    "Generation",
    "Interrupted",
    "PlauditError",
    "Policy",
    "Recipe",
    "Reward",
    "Run",
    "Stop",
    "__version__",
    "chat",
    "dpo",
    "evaluate",
    "iterate",
    "load_policy",
    "load_recipe",
    "load_reward",
    "pretrain",
    "report",
    "reward",
    "rl",
    "run",
    "sft",
    "world",
]

_exported, __dir__ = lazy_exports(
    __name__,
    {
        "api": [
            "chat",
            "dpo",
            "evaluate",
            "iterate",
            "load_policy",
            "load_reward",
            "pretrain",
            "report",
            "reward",
            "rl",
            "run",
            "sft",
            "world",
        ],
        "config.load": ["load_recipe"],
        "config.schema": ["Recipe"],
        "errors": ["Interrupted", "PlauditError", "Stop"],
        "runs.run": ["Run"],
        "serving.policy": ["Generation", "Policy"],
        "serving.reward": ["Reward"],
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("plaudit")
    return _exported(name)
