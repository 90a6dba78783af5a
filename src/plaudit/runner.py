"""Runs a recipe: all stages in order. Finished stages are skipped, and interrupted ones are resumed."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plaudit.config.load import referenced_stages
from plaudit.config.schema import Recipe, Section
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.plugins import is_built_in, user_code
from plaudit.registries.stages import STAGES, restart_command
from plaudit.runs.context import StageContext, stage_context
from plaudit.runs.directory import RunDirectory
from plaudit.runs.metadata import begin_metadata, collect_metadata, update_metadata
from plaudit.runs.session import OnMetrics, Session, start_session
from plaudit.runs.trackers import check_trackers
from plaudit.stages.preflight import check_before_start

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    stages: Sequence[str] | None = None,
    restart: bool = False,
    on_metrics: OnMetrics | None = None,
) -> Path:
    """Run the recipe's stages (or those named) in its folder and return the folder.

    The same call resumes an interrupted run. ``restart`` first deletes the run or, if stages are named, only the
    folders of these stages. Raises PlauditError if the folder's configuration differs, if a stage lacks the result of
    an earlier stage or was computed from a result that has since been replaced, and for any other bad input.
    """
    check_trackers(recipe.trackers)
    folder = RunDirectory(Path(recipe.output) / recipe.name)
    wanted = [name for name in recipe.sections() if stages is None or name in stages]
    check_before_start(recipe, folder, wanted, wanted if restart else ())
    session = start_session(recipe, folder, on_metrics)
    try:
        session.processes.from_main(lambda: _open(session, restart, stages))
        _check_inputs(folder, wanted, session.is_main)
        for name in wanted:
            _run_stage(name, session)
        if session.is_main:
            for name in wanted:
                STAGES[name].show(folder.stage(name))
    finally:
        folder.close()
    return folder.folder


def _open(session: Session, restart: bool, stages: Sequence[str] | None) -> None:
    """Open the run's folder, delete what is restarted, and write the run's metadata."""
    recipe, run = session.recipe, session.run
    run.open(recipe, restart and stages is None, stages if restart and stages else ())
    begun = [section for name, section in recipe.sections().items() if run.stage(name).begun]
    begin_metadata(run.metadata, collect_metadata(recipe, session.device, session.processes.count), begun)


def _run_stage(name: str, session: Session) -> None:
    stage = session.run.stage(name)
    if stage.finished and not STAGES[name].repeats:
        if session.is_main:
            logger.info("%s: already finished, in %s", name, stage.folder)
        return
    section = session.recipe.sections()[name]
    _refuse_replaced_results(name, section, session.run)
    if session.is_main and not stage.begun:
        session.run.record_inputs(name, referenced_stages(section))
    context = stage_context(session, name)
    started = time.monotonic()
    try:
        result = _result_of(name, context)
    except (RuntimeError, MemoryError) as fault:
        # Running out of memory for activations is handled where they are computed; here weights did not fit.
        if is_out_of_memory(fault):
            remedy = "use a smaller model, adapters (model.lora), quantization or model.dtype=bfloat16"
            raise PlauditError(f"{name}: out of memory; {remedy}") from fault
        raise
    result.setdefault("seconds", time.monotonic() - started)
    context.finish(result)
    if session.is_main:
        update_metadata(session.run.metadata, {"stages": {name: {"seconds": result["seconds"]}}})


def _result_of(name: str, context: StageContext[Any]) -> dict[str, Any]:
    """Do the stage's work. Raises PlauditError with file and line if a stage from outside fails."""
    stage = STAGES[name]
    if is_built_in(stage):
        return stage.run(context)
    with user_code(f"{name}: {type(stage).__name__}.run", stage.run):
        result = stage.run(context)
    if not isinstance(result, dict):
        raise PlauditError(
            f"{name}: {type(stage).__name__}.run returned a value of type {type(result).__name__}: return a dictionary"
        )
    return result


def _check_inputs(folder: RunDirectory, wanted: Sequence[str], is_main: bool) -> None:
    """Raise PlauditError if requested stages were computed from replaced results; warn about other stages."""
    replaced = {name: folder.replaced_inputs(name) for name in STAGES}
    for name, inputs in replaced.items():
        if inputs and name in wanted:
            raise PlauditError(_used_earlier_result(name, inputs))
        if inputs and is_main:
            logger.warning(_used_earlier_result(name, inputs))


def _used_earlier_result(name: str, inputs: Sequence[str]) -> str:
    return f"{name} used an earlier result of {' and '.join(inputs)}; repeat {name} with: {restart_command(name)}"


def _refuse_replaced_results(name: str, section: Section, run: RunDirectory) -> None:
    for earlier in sorted(referenced_stages(section), key=STAGES.names.index):
        if inputs := run.replaced_inputs(earlier):
            raise PlauditError(f"{name} needs {earlier}, but {_used_earlier_result(earlier, inputs)}")
