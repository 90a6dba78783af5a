"""Reward sources with a common protocol, and their weighted sum."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.rewards.sources import ComposedReward, ComposedScores, RewardSource, build_reward

__all__ = ["ComposedReward", "ComposedScores", "RewardSource", "build_reward"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"sources": ["ComposedReward", "ComposedScores", "RewardSource", "build_reward"]},
)
