"""The stages by name, in the order in which they run.

This module imports neither torch nor pydantic, because the configuration schema and ``plaudit --help`` read it.
"""

from typing import TYPE_CHECKING, Any

from plaudit.registry import Registry

if TYPE_CHECKING:
    from plaudit.stages.base import Stage

STAGES: "Registry[Stage[Any]]" = Registry(
    "stage",
    {
        "world": "plaudit.stages.world:STAGE",
        "pretrain": "plaudit.stages.pretrain:STAGE",
        "sft": "plaudit.stages.sft:STAGE",
        "reward": "plaudit.stages.reward:STAGE",
        "dpo": "plaudit.stages.dpo:STAGE",
        "rl": "plaudit.stages.rl:STAGE",
        "evaluate": "plaudit.stages.evaluate:STAGE",
        "report": "plaudit.stages.report:STAGE",
    },
)

WITH_COMMAND = STAGES.names
"""The stages with a command ``plaudit NAME``; run those of plugins with ``plaudit run RECIPE --only NAME``."""


def restart_command(stage: str) -> str:
    """Return the command that reruns one stage. The user must add the overrides of the run, if there were any."""
    if stage in WITH_COMMAND:
        return f"plaudit {stage} RECIPE OVERRIDES… --restart"
    return f"plaudit run RECIPE OVERRIDES… --only {stage} --restart"
