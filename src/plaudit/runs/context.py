"""The context of a stage: its configuration, the session of its run, and its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from plaudit.config.schema import Section
from plaudit.parallel.strategy import Strategy, build_strategy
from plaudit.runs.directory import StageDirectory
from plaudit.runs.session import Session

ConfigT_co = TypeVar("ConfigT_co", bound=Section, covariant=True)


@dataclass(frozen=True)
class StageContext(Generic[ConfigT_co]):
    """One stage of a run in progress. References in ``config`` to earlier stages are already resolved to paths."""

    config: ConfigT_co
    session: Session
    directory: StageDirectory

    @property
    def name(self) -> str:
        """Name of the stage's folder: the stage, or a member of its ensemble."""
        return self.directory.name

    @property
    def seed(self) -> int:
        """The run's seed, from which all random numbers derive."""
        return self.session.recipe.seed

    @cached_property
    def strategy(self) -> Strategy:
        """How the processes train one model together in this stage."""
        return build_strategy(self.session.recipe.distributed, self.session.processes)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the stage's result in the main process once all processes have called this."""
        self.session.processes.wait_for_everyone()
        if self.session.is_main:
            self.directory.finish(result)
        self.session.processes.wait_for_everyone()


def stage_context(session: Session, name: str) -> StageContext[Any]:
    """Return the context of a stage of the session's recipe, with the references in its section resolved."""
    return StageContext(session.run.resolve(session.recipe.sections()[name]), session, session.run.stage(name))
