"""Measurements of models and rewards. Each returns plain data."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.evaluation.compare import evaluate
    from plaudit.evaluation.reward_judgement import judge_reward_model

__all__ = ["evaluate", "judge_reward_model"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"compare": ["evaluate"], "reward_judgement": ["judge_reward_model"]},
)
