"""A run from its recipe: every stage in order, finished ones skipped, interrupted ones continued."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.load import referenced_stages, resolve_stages
from plaudit.config.schema import STAGES, Recipe, Section
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.metadata import begin_metadata, collect_metadata, update_metadata
from plaudit.runs.session import Session, start_session
from plaudit.runs.trackers import check_trackers

Result = dict[str, Any]
SHOWN_SAMPLES = 3


def run(recipe: Recipe, stages: Sequence[str] | None = None, restart: bool = False) -> Path:
    """Run the recipe's stages (or those named) in its folder and return the folder.

    The same call continues an interrupted run. ``restart`` first deletes the run, or where stages are named the folders
    of these stages alone. Raises PlauditError when the folder's configuration is another one, when a stage lacks the
    result of an earlier one or was computed from a result that has been replaced, and for all bad input.
    """
    check_trackers(recipe.trackers)
    folder = RunDirectory(Path(recipe.output) / recipe.name)
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        folder.open(recipe, restart and stages is None, stages if restart and stages else ())
    try:
        session = start_session(recipe, folder)
        session.wait_for_everyone()
        if is_main:
            begin_metadata(folder.metadata, collect_metadata(recipe, session.device, session.processes.count))
        wanted = [name for name in STAGES if getattr(recipe, name) is not None and (stages is None or name in stages)]
        _check_inputs(folder, wanted, session.is_main)
        for name in wanted:
            _run_stage(name, session)
        if is_main:
            _show_result(folder, wanted)
    finally:
        folder.close()
    return folder.folder


def _run_stage(name: str, session: Session) -> None:
    stage = session.run.stage(name)
    # A report is made anew whenever it is asked for: it costs seconds, and its stages may have gone on.
    if stage.finished and name != "report":
        if session.is_main:
            print(f"{name}: already finished, in {stage.folder}")
        return
    section = getattr(session.recipe, name)
    _require_earlier_stages(name, section, session.run)
    if session.is_main and not stage.begun:
        session.run.record_inputs(name, referenced_stages(section))
    context = StageContext(resolve_stages(section, session.run.folder), session, stage)
    started = time.monotonic()
    try:
        result = STAGE_FUNCTIONS[name](context)
    except (RuntimeError, MemoryError) as fault:
        # Token budgets and batch sizes are halved where they are used; weights have nothing to halve.
        if is_out_of_memory(fault):
            remedy = "use a smaller model, adapters (model.lora), quantization or model.dtype=bfloat16"
            raise PlauditError(f"{name}: out of memory; {remedy}") from fault
        raise
    result.setdefault("seconds", time.monotonic() - started)
    context.finish(result)
    if session.is_main:
        update_metadata(session.run.metadata, {"stages": {name: {"seconds": result["seconds"]}}})


def _check_inputs(folder: RunDirectory, wanted: Sequence[str], is_main: bool) -> None:
    """Refuse to continue or skip stages that were computed from replaced results; warn about those not asked for."""
    replaced = {name: folder.replaced_inputs(name) for name in STAGES}
    for name, inputs in replaced.items():
        if inputs and name in wanted:
            raise PlauditError(_was_computed_from(name, inputs))
        if inputs and is_main:
            print(f"warning: {_was_computed_from(name, inputs)}")


def _was_computed_from(name: str, inputs: Sequence[str]) -> str:
    return (
        f"{name}: it was computed from results of {', '.join(inputs)} that have been replaced since; compute it again "
        f"with: plaudit {name} RECIPE --restart"
    )


def _require_earlier_stages(name: str, section: Section, run: RunDirectory) -> None:
    for earlier in sorted(referenced_stages(section), key=STAGES.index):
        if not run.stage(earlier).finished:
            raise PlauditError(
                f"{name}: it needs the result of {earlier}, which is not in {run.folder}; run that first"
            )
        if inputs := run.replaced_inputs(earlier):
            raise PlauditError(f"{name} needs {_was_computed_from(earlier, inputs)}")


def _show_result(folder: RunDirectory, stages: Sequence[str]) -> None:
    """Print the comparison and samples of the evaluation, and where the report is."""
    if "evaluate" in stages:
        from rich.console import Console

        from plaudit.reporting.terminal import comparison_table, print_samples

        summary = json.loads((folder.stage("evaluate").folder / "summary.json").read_text(encoding="utf-8"))
        console = Console()
        print_samples(summary, SHOWN_SAMPLES, console)
        console.print(comparison_table(summary))
    if "report" in stages:
        print(f"report: {folder.stage('report').result()['page']}")


# Stages ---------------------------------------------------------------------------------------------------------------


def _world(context: StageContext[Any]) -> Result:
    from plaudit.quickstart.world import make_world

    folder = context.directory.create().folder
    return dict(make_world(context.config, context.seed, folder)) if context.session.is_main else {}


def _pretrain(context: StageContext[Any]) -> Result:
    from plaudit.training.loop import Trainer
    from plaudit.training.sft import load_sft_task

    return dict(Trainer(load_sft_task(context, "text")).train())


def _sft(context: StageContext[Any]) -> Result:
    from plaudit.training.loop import Trainer
    from plaudit.training.sft import load_sft_task

    return dict(Trainer(load_sft_task(context, "response")).train())


def _reward(context: StageContext[Any]) -> Result:
    from plaudit.training.ensembles import combined, members

    if context.config.members == 1:
        return _reward_model(context, 1)
    for number, member in enumerate(members(context, context.config.members), start=1):
        if not member.directory.finished:
            member.finish(_reward_model(member, number))
    return combined(context, context.config.members)


def _reward_model(context: StageContext[Any], member: int) -> Result:
    from plaudit.evaluation.stage import judge_reward_model
    from plaudit.training.loop import Trainer
    from plaudit.training.reward import load_reward_task

    task, examples = load_reward_task(context, member)
    result: Result = dict(Trainer(task).train())
    if context.session.is_main and task.held_out:
        result |= judge_reward_model(task.held_out_scores, task.held_out, examples.train_rows, examples.held_out_rows)
    return result


def _dpo(context: StageContext[Any]) -> Result:
    from plaudit.training.dpo import load_dpo_task
    from plaudit.training.loop import Trainer

    return dict(Trainer(load_dpo_task(context)).train())


def _rl(context: StageContext[Any]) -> Result:
    from plaudit.training.loop import Trainer
    from plaudit.training.rl.stage import load_rl_task

    return dict(Trainer(load_rl_task(context)).train())


def _evaluate(context: StageContext[Any]) -> Result:
    from plaudit.evaluation.stage import run_evaluation

    return run_evaluation(context)


def _report(context: StageContext[Any]) -> Result:
    from plaudit.reporting.page import write_report

    return {"page": str(write_report(context.session.run.folder, context.config))} if context.session.is_main else {}


STAGE_FUNCTIONS: dict[str, Callable[[StageContext[Any]], Result]] = {
    "world": _world,
    "pretrain": _pretrain,
    "sft": _sft,
    "reward": _reward,
    "dpo": _dpo,
    "rl": _rl,
    "evaluate": _evaluate,
    "report": _report,
}
