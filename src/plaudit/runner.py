"""Runs a recipe: all stages in order. Finished stages are skipped, and interrupted ones are resumed."""

import logging
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from plaudit.config.load import referenced_stages
from plaudit.config.marks import marked_values
from plaudit.config.schema import Recipe, Section
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.plugins import is_built_in, user_code
from plaudit.registries.stages import STAGES, restart_command
from plaudit.runs.context import StageContext, stage_context
from plaudit.runs.directory import RunDirectory
from plaudit.runs.lines import Lines, last, quiet
from plaudit.runs.metadata import (
    begin_metadata,
    collect_metadata,
    data_paths,
    read_metadata,
    update_metadata,
    warn_about_changed_data,
)
from plaudit.runs.session import Session, start_session
from plaudit.runs.start_models import record_or_check_data, record_or_check_models
from plaudit.runs.trackers import check_trackers
from plaudit.stages.preflight import check_before_start

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    stages: Sequence[str] | None = None,
    restart: bool = False,
    confirm: Callable[[str], bool] = lambda _: True,
) -> Path:
    """Run the recipe's stages (or those named) in its folder and return the folder. See ``iterate``."""
    return last(iterate(recipe, stages, restart, confirm))


def iterate(
    recipe: Recipe,
    stages: Sequence[str] | None = None,
    restart: bool = False,
    confirm: Callable[[str], bool] = lambda _: True,
) -> Lines[Path]:
    """Run the recipe's stages (or those named) in its folder: yield each line of metrics and return the folder.

    The same call resumes an interrupted run. ``restart`` first moves all stages, or those named and what was computed
    from them, to the run's trash, which is emptied at the next success; ``confirm`` gets their names and returns
    whether to go on. Raises PlauditError if the folder's configuration differs, if a stage lacks the result of an
    earlier stage or was computed from a result that has since been replaced, and for any other bad input.
    """
    check_trackers(recipe.trackers)
    return (yield from quiet(_lines(recipe, stages, restart, confirm)))


def _lines(recipe: Recipe, stages: Sequence[str] | None, restart: bool, confirm: Callable[[str], bool]) -> Lines[Path]:
    folder = RunDirectory(Path(recipe.output) / recipe.name)
    is_new = not folder.folder.exists()
    wanted = [name for name in recipe.sections() if stages is None or name in stages]
    check_before_start(recipe, folder, wanted, wanted if restart else ())
    session = start_session(recipe, folder)
    try:
        session.processes.from_main(lambda: _open(session, wanted, restart, stages, confirm))
        session.processes.from_main(lambda: _verify_finished(folder, wanted))
        _check_inputs(folder, wanted, session.is_main)
        for name in wanted:
            yield from _run_stage(name, session)
        if session.is_main:
            if stages is None:
                folder.empty_trash()
            for name in wanted:
                STAGES[name].show(folder.stage(name))
    except BaseException as fault:
        if session.is_main:
            folder.undo_restart()
            if is_new and isinstance(fault, PlauditError):
                folder.remove_if_unused()
        raise
    finally:
        folder.close()
    return folder.folder


def _open(
    session: Session,
    wanted: Sequence[str],
    restart: bool,
    stages: Sequence[str] | None,
    confirm: Callable[[str], bool],
) -> None:
    """Open the run's folder, remove what is restarted, and write the run's metadata."""
    recipe, run = session.recipe, session.run

    def verify(removed: Collection[str]) -> None:
        for stage in (run.stage(name) for name in STAGES if name not in removed):
            stage.verify(stage.result_file)  # a damaged result would be taken for a replaced one
        for name in wanted if removed else ():
            if name in removed or not run.stage(name).finished:
                _check_earlier_results(name, recipe.sections()[name], run, removed)

    run.open(recipe, restart and stages is None, stages if restart and stages else (), confirm, verify)
    begun = [section for name, section in recipe.sections().items() if run.stage(name).begun]
    begin_metadata(run.metadata, collect_metadata(recipe, session.device, session.processes.count), begun)


def _run_stage(name: str, session: Session) -> Lines[None]:
    stage = session.run.stage(name)
    if stage.finished and not STAGES[name].repeats:
        if session.is_main:
            logger.info("%s: already finished, in %s", name, stage.folder)
        return
    section = session.recipe.sections()[name]
    session.processes.from_main(lambda: _check_earlier_results(name, section, session.run))
    if session.is_main and not stage.begun:
        session.run.record_inputs(name, referenced_stages(section))
    sections = session.recipe.sections()
    begun = {other: found for other, found in sections.items() if other == name or session.run.stage(other).begun}
    if session.is_main:
        warn_about_changed_data(session.run.metadata, begun, f"at the start of {name}")
    continues, resolved = stage.begun and not STAGES[name].repeats, session.run.resolve(section)
    session.processes.from_main(lambda: _record_or_check_start(stage.create().folder, session.run, resolved, continues))
    context = stage_context(session, name)
    started = time.monotonic()
    try:
        result = yield from _result_of(name, context)
    except (RuntimeError, MemoryError) as fault:
        # Running out of memory for activations is handled where they are computed; here weights did not fit.
        if is_out_of_memory(fault):
            remedy = "use a smaller model, adapters (model.lora), quantization or model.dtype=bfloat16"
            raise PlauditError(f"{name}: out of memory; {remedy}") from fault
        raise
    result.setdefault("seconds", time.monotonic() - started)
    context.finish(result)
    if session.is_main:
        if not STAGES[name].repeats:
            logger.info("%s: finished, in %s", name, stage.folder)
        warn_about_changed_data(session.run.metadata, {name: section}, f"at the end of {name}")
        update_metadata(session.run.metadata, {"stages": {name: {"seconds": result["seconds"]}}})
        session.run.empty_trash(name)


def _result_of(name: str, context: StageContext[Any]) -> Lines[dict[str, Any]]:
    """Do the stage's work. Raises PlauditError with file and line if a stage from outside fails."""
    stage = STAGES[name]
    with nullcontext() if is_built_in(stage) else user_code(f"{name}: {type(stage).__name__}.run", stage.run):
        result = stage.run(context)
        if isinstance(result, Generator):
            result = yield from result
    if not isinstance(result, dict):
        raise PlauditError(
            f"{name}: {type(stage).__name__}.run returned a value of type {type(result).__name__}: return a dictionary"
        )
    return result


def _verify_finished(run: RunDirectory, wanted: Sequence[str]) -> None:
    """Raise PlauditError if a file of a finished stage has changed: any of ``wanted`` ones, the result of others."""
    for name in STAGES:
        stage = run.stage(name)
        if name not in wanted:
            stage.verify(stage.result_file)
        elif not STAGES[name].repeats:
            stage.verify()


def _record_or_check_start(stage: Path, run: RunDirectory, section: Section, continues: bool) -> None:
    """Record the content of the models and data from which a stage starts, or check that it has not changed since."""
    record_or_check_models(stage, section, continues)
    recorded = read_metadata(run.metadata).get("data", {})
    record_or_check_data(stage, {path: recorded[path] for path in data_paths(section) if path in recorded}, continues)


def _check_inputs(folder: RunDirectory, wanted: Sequence[str], is_main: bool) -> None:
    """Raise PlauditError if requested stages were computed from replaced results; warn about other stages."""
    replaced = {name: folder.replaced_inputs(name) for name in STAGES}
    for name, inputs in replaced.items():
        if inputs and name in wanted:
            raise PlauditError(_used_earlier_result(name, inputs, folder))
        if inputs and is_main:
            logger.warning(_used_earlier_result(name, inputs, folder))


def _used_earlier_result(name: str, inputs: Sequence[str], run: RunDirectory) -> str:
    return (
        f"{run.folder}: {name} used an earlier result of {' and '.join(inputs)}; repeat {name} with: "
        f"{restart_command(name)}"
    )


def _check_earlier_results(name: str, section: Section, run: RunDirectory, removed: Collection[str] = ()) -> None:
    """Raise PlauditError if a result of an earlier stage that this stage reads is stale, or a file of it has changed.

    The results of ``removed`` stages will be made again.
    """
    for earlier in sorted(referenced_stages(section) - {*removed}, key=STAGES.names.index):
        if inputs := run.replaced_inputs(earlier):
            raise PlauditError(f"{name} needs {earlier}, but {_used_earlier_result(earlier, inputs, run)}")
    for stage, file in sorted({found.reference for found in marked_values(section) if found.reference is not None}):
        if stage not in removed and run.stage(stage).finished:
            run.verify(stage, file)
