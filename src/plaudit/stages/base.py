"""The interface of a stage: its recipe section, its work, its report curves and its settings for a chat."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from plaudit.config.schema import DataConfig, GenerationConfig, RewardSourceConfig, Section
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import StageFiles
    from plaudit.runs.context import StageContext
    from plaudit.runs.directory import StageDirectory
    from plaudit.runs.lines import Lines

ConfigT = TypeVar("ConfigT", bound="Section")


class Stage(ABC, Generic[ConfigT]):
    """One stage of a run. A subclass sets the class variables and implements ``section`` and ``run``.

    Methods import heavy modules when they are called, because ``plaudit --help`` loads every stage's module.

    Attributes:
        name: the section of the recipe, the folder within the run's folder, and NAME in ``stage:NAME``.
        title: heading in the report.
        help: a sentence about what the command does.
        example: a command line for the help.
        makes: the kind of model that the stage writes to ``model`` in its folder; None if it writes none.
        repeats: whether the stage runs again after it has finished.
        files: patterns of the names of files that the stage writes in its folder, next to those of every stage. Other
            files there belong to the user: they are neither verified nor deleted.
        headline: a metric and its name in words. Its first and last values summarize a run without an evaluation.
        step_name: the unit of the stage's metric lines.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    example: ClassVar[str]
    makes: ClassVar[Literal["policy", "reward model"] | None] = None
    repeats: ClassVar[bool] = False
    files: ClassVar[Sequence[str]] = ("*",)
    headline: ClassVar[tuple[str, str] | None] = None
    step_name: ClassVar[str] = "step"

    @abstractmethod
    def section(self) -> "type[ConfigT]":
        """Return the class of the stage's section in the recipe."""

    @abstractmethod
    def run(self, context: "StageContext[ConfigT]") -> "dict[str, Any] | Lines[dict[str, Any]]":
        """Do the stage's work in ``context.directory`` and return the content of ``result.json``.

        Every process calls this. Only the main process (``context.session.is_main``) writes files, and its result is
        used. A stage that trains is a generator, which yields the lines of metrics that ``Trainer.train`` yields.
        """

    def check(self, config: ConfigT) -> None:
        """Raise PlauditError for bad input that the schema cannot detect; called before any stage of a run starts.

        Files, models and functions need no check here if their keys are marked, see ``plaudit.stages.preflight``.
        """

    def show(self, directory: "StageDirectory") -> None:
        """Print the stage's results at the end of the run."""

    def panels(self, stage: "StageFiles", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return the report's panels; ``config`` is the stage's section as plain data. Panels may lack data."""
        return ()

    def prompts(self, config: ConfigT) -> "DataConfig | None":
        """Return the data whose prompt format a chat uses; None if the model continues plain text."""
        return None

    def generation(self, config: ConfigT) -> "GenerationConfig | None":
        """Return the generation settings for a chat, if the stage has any."""
        return None

    def rewards(self, config: ConfigT) -> "Sequence[RewardSourceConfig]":
        """Return the reward sources that score a chat's candidates if the run has not trained a reward model."""
        return ()
