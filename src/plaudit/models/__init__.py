"""Models: loading and saving, heads, adapters, and faster computation with the same results."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel, load_policy, load_scorer
    from plaudit.models.reward_model import RewardModel, load_reward_model
    from plaudit.models.saving import save_model

__all__ = ["LoadedModel", "RewardModel", "load_policy", "load_reward_model", "load_scorer", "save_model"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "loading.models": ["LoadedModel", "load_policy", "load_scorer"],
        "reward_model": ["RewardModel", "load_reward_model"],
        "saving": ["save_model"],
    },
)
