"""The stage ``evaluate``: measures models on the same held-out prompts."""

from typing import TYPE_CHECKING, Any

from plaudit.stages.base import Stage

if TYPE_CHECKING:
    from plaudit.config.schema import EvaluateConfig
    from plaudit.runs.context import StageContext
    from plaudit.runs.directory import StageDirectory

SHOWN_SAMPLES = 3


class EvaluateStage(Stage["EvaluateConfig"]):
    """Measures scores, win rates and KL of any set of models, and collects sample texts."""

    name = "evaluate"
    title = "Evaluation"
    help = "Compare models on held-out prompts."
    files = ("summary.*", "samples.csv", "toxicity.csv", "toxicity_rejects.jsonl")
    example = "plaudit evaluate quickstart evaluate.max_prompts=100"

    def section(self) -> "type[EvaluateConfig]":
        """Return the section."""
        from plaudit.config.schema import EvaluateConfig

        return EvaluateConfig

    def run(self, context: "StageContext[EvaluateConfig]") -> dict[str, Any]:
        """Measure the models on all processes together and write the tables."""
        from plaudit.data.store.cache import DataCache
        from plaudit.evaluation.compare import evaluate
        from plaudit.evaluation.summary import flattened

        session = context.session
        with session.autocast():
            summary = evaluate(
                context.config,
                context.directory.create().folder,
                context.seed,
                session.processes,
                simulated=session.recipe.world is not None,
                cache=DataCache.of(session.recipe.output),
            )
        return {name: flattened(measured) for name, measured in summary["models"].items()}

    def show(self, directory: "StageDirectory") -> None:
        """Print the comparison and some samples."""
        from plaudit.log import new_console
        from plaudit.reporting.terminal import comparison_table, print_samples

        console, summary = new_console(), directory.summary()
        print_samples(summary, SHOWN_SAMPLES, console)
        console.print(comparison_table(summary))


STAGE = EvaluateStage()
