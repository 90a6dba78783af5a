"""The base class of the stages ``pretrain`` and ``sft``, which maximize the likelihood of tokens."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from plaudit.stages.training import TrainingStage

if TYPE_CHECKING:
    from plaudit.config.schema import SftConfig
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import StageFiles


class LanguageModelStage(TrainingStage["SftConfig"]):
    """Trains a language model on texts or responses."""

    makes = "policy"

    def section(self) -> "type[SftConfig]":
        """Return the section."""
        from plaudit.config.schema import SftConfig

        return SftConfig

    def panels(self, stage: "StageFiles", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return loss, perplexity and token accuracy."""
        from plaudit.reporting.panels import language_model_panels

        return language_model_panels()
