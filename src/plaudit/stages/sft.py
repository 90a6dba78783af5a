"""The stage ``sft``: supervised fine-tuning on prompts and responses."""

from typing import TYPE_CHECKING, Any

from plaudit.stages.language_model import LanguageModelStage

if TYPE_CHECKING:
    from plaudit.config.schema import DataConfig, SftConfig
    from plaudit.runs.context import StageContext
    from plaudit.training.task import Task


class SftStage(LanguageModelStage):
    """Fine-tunes a language model on demonstrations."""

    name = "sft"
    title = "Supervised fine-tuning"
    help = "Fine-tune a model on prompts and responses."
    example = "plaudit sft quickstart sft.epochs=1"
    headline = ("held_out/loss", "held-out loss")

    def load_task(self, context: "StageContext[SftConfig]") -> "Task[Any]":
        """Load the model and the demonstrations."""
        from plaudit.training.sft import load_sft_task

        return load_sft_task(context, "response")

    def prompts(self, config: "SftConfig") -> "DataConfig":
        """Return the demonstrations."""
        return config.data


STAGE = SftStage()
