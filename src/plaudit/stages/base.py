"""What the rest of Plaudit knows of a stage: its section of the recipe, its work, its curves, its use in a chat."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from plaudit.config.schema import DataConfig, GenerationConfig, RewardSourceConfig, Section
    from plaudit.reporting.panels import Panel
    from plaudit.reporting.reading import Stage as StageRecord
    from plaudit.runs.context import StageContext
    from plaudit.runs.directory import StageDirectory

ConfigT = TypeVar("ConfigT", bound="Section")


class Stage(ABC, Generic[ConfigT]):
    """One stage of a run. A subclass sets the class variables, names its section and does the work.

    Methods import what they need when they are called: a module with a stage is loaded for ``plaudit --help``.

    Attributes:
        name: the section of the recipe, the folder within the run's folder, and NAME in ``stage:NAME``.
        title: heading in the report.
        help: what the command does, a sentence.
        example: a command line for the help.
        makes: what ``model`` in the stage's folder is, if the stage leaves one.
        repeats: whether the stage runs again although it has finished.
        headline: metric and its name in words, whose first and last value sum up a run without an evaluation.
        step_name: what the stage's metrics count.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    example: ClassVar[str]
    makes: ClassVar[Literal["policy", "reward model"] | None] = None
    repeats: ClassVar[bool] = False
    headline: ClassVar[tuple[str, str] | None] = None
    step_name: ClassVar[str] = "step"

    @abstractmethod
    def section(self) -> "type[ConfigT]":
        """Return the class of the stage's section in the recipe."""

    @abstractmethod
    def run(self, context: "StageContext[ConfigT]") -> dict[str, Any]:
        """Do the stage's work in ``context.directory`` and return what ``result.json`` will hold.

        Every process calls this; only the main one (``context.session.is_main``) writes files, and its result counts.
        """

    def show(self, directory: "StageDirectory") -> None:
        """Print what the user wants to see at the end of the run."""

    def panels(self, stage: "StageRecord", config: Mapping[str, Any]) -> "Iterable[Panel]":
        """Return the curves of the report; ``config`` is the stage's section as plain data. A panel needs no data."""
        return ()

    def prompts(self, config: ConfigT) -> "DataConfig | None":
        """Return data whose prompt format a chat with the model keeps; None if the model continues any text."""
        return None

    def generation(self, config: ConfigT) -> "GenerationConfig | None":
        """Return how a chat samples from the model, if the stage says."""
        return None

    def rewards(self, config: ConfigT) -> "Sequence[RewardSourceConfig]":
        """Return the reward sources that score a chat's candidates, where the run has trained no reward model."""
        return ()
