"""The stage ``world``: generates the data of the embedded task."""

from typing import TYPE_CHECKING, Any

from plaudit.stages.base import Stage

if TYPE_CHECKING:
    from plaudit.config.schema import WorldConfig
    from plaudit.runs.context import StageContext


class WorldStage(Stage["WorldConfig"]):
    """Generates texts, demonstrations, comparisons and prompts."""

    name = "world"
    title = "World"
    help = "Generate the data of the embedded task."
    files = (
        *("README.txt", "pretrain.jsonl", "demonstrations.jsonl", "comparisons.jsonl", "prompts.jsonl"),
        *("test_prompts.jsonl", "tokenizer/*"),
    )
    example = "plaudit world quickstart world.comparisons=1000"

    def section(self) -> "type[WorldConfig]":
        """Return the section."""
        from plaudit.config.schema import WorldConfig

        return WorldConfig

    def run(self, context: "StageContext[WorldConfig]") -> dict[str, Any]:
        """Write the files."""
        if not context.session.is_main:
            return {}
        from plaudit.quickstart.world import make_world

        return dict(make_world(context.config, context.seed, context.directory.create().folder))


STAGE = WorldStage()
