"""The stage ``pretrain``: language modeling on plain text."""

from typing import TYPE_CHECKING, Any

from plaudit.stages.language_model import LanguageModelStage

if TYPE_CHECKING:
    from plaudit.config.schema import SftConfig
    from plaudit.runs.context import StageContext
    from plaudit.training.task import Task


class PretrainStage(LanguageModelStage):
    """Trains a language model on plain text."""

    name = "pretrain"
    title = "Pre-training"
    help = "Train a language model on plain text."
    example = "plaudit pretrain quickstart pretrain.max_steps=200"
    headline = ("held_out/loss", "held-out loss in pre-training")

    def load_task(self, context: "StageContext[SftConfig]") -> "Task[Any]":
        """Load the model and the texts."""
        from plaudit.training.sft import load_sft_task

        return load_sft_task(context, "text")


STAGE = PretrainStage()
