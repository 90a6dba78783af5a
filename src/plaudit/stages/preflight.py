"""Checks before the first stage starts: what a recipe names must exist.

Models, data files, reward functions and optional packages are checked by the marks of their keys in the schema
(``NAMES_MODEL`` and so on in ``config.schema.base``), so a key of a new stage takes part once it is marked. What a mark
cannot express, a stage checks in ``Stage.check``.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from plaudit.config.marks import MarkedValue, marked_values
from plaudit.config.places import dotted
from plaudit.config.schema import FunctionReward, ModelConfig, Recipe
from plaudit.config.secrets import masked_places
from plaudit.data.formats.registry import FORMATS
from plaudit.data.readers.opening import check_file
from plaudit.data.readers.sources import check_source
from plaudit.errors import PlauditError, all_of
from plaudit.hub import check_model
from plaudit.models.adapters.folder import refuse_continued_base
from plaudit.models.loading.models import has_reward_head, is_classifier
from plaudit.models.reward_model import refuse_untrained_head
from plaudit.models.weights.files import stored_shapes
from plaudit.packages import missing_package
from plaudit.plugins import check_methods, import_function
from plaudit.registries.stages import STAGES
from plaudit.rewards.function import load_function
from plaudit.runs.directory import RunDirectory
from plaudit.stages.agreement import Origins, misfits
from plaudit.stages.base import Stage


def check_before_start(recipe: Recipe, run: RunDirectory, wanted: Sequence[str], restarted: Collection[str]) -> None:
    """Check the sections of the ``wanted`` stages that are not finished; ``restarted`` ones are about to be deleted.

    Raises PlauditError with a line per problem: the key, what it names, and the remedy.
    """
    finished = {name for name in STAGES if run.stage(name).finished and name not in restarted}
    problems: list[str] = []
    for name in wanted:
        if name in finished and not STAGES[name].repeats:
            continue
        section = recipe.sections()[name]
        named = [line for found in marked_values(section, (name,)) for line in _problems(found, run, wanted, finished)]
        problems += named or misfits(section, name, Origins(recipe.sections(), run, finished))
        problems += [
            f"{dotted(place)}: {address}: secrets of this address were masked when the run was written; add "
            f"{dotted(place)}=ADDRESS, or use the recipe that began the run"
            for place, address in masked_places(section.model_dump(mode="json"), (name,))
        ]
        try:
            check_methods(STAGES[name], Stage, f"stage {name}")
            STAGES[name].check(section)
        except PlauditError as error:
            problems.append(str(error))
    if problems:
        raise all_of(problems)


def _problems(
    found: MarkedValue, run: RunDirectory, wanted: Collection[str], finished: Collection[str]
) -> Iterator[str]:
    key = found.place_text
    if missing := missing_package(found.marks["requires"]) if "requires" in found.marks else None:
        yield f"{key}: {found.value} {missing}; install it with: {found.marks['install']}"
    if found.reference is not None:
        if problem := _reference_problem(found, *found.reference, run, wanted, finished):
            yield f"{key}: {found.value}: {problem}"
    elif "names" in found.marks:
        try:
            CHECKS[found.marks["names"]](found)
        except PlauditError as error:
            yield f"{key}: {error}"


def _reference_problem(
    found: MarkedValue, stage: str, file: str, run: RunDirectory, wanted: Collection[str], finished: Collection[str]
) -> str | None:
    """Return what is wrong with ``stage:NAME`` or ``stage:NAME/FILE``; the files of a later stage are not known yet."""
    if stage in finished:
        path = run.referenced(stage, file)
        return None if path.exists() else f"there is no {path}; correct the name, or restart the stage {stage}"
    if stage not in wanted:
        return f"needs the result of {stage}, which is not in {run.folder}; run that stage first"
    makes, names = STAGES[stage].makes, found.marks["names"]
    if not file and makes is None:
        return f"the stage {stage} makes no model; name another stage, or a file as stage:{stage}/FILE"
    if not file and names == "reward model" and makes != "reward model":
        return f"the stage {stage} makes a {makes}, but a reward model is needed; name the stage that trains one"
    if not file and names == "model" and makes == "reward model":
        return f"the stage {stage} makes a reward model, which writes no text; name a stage that trains a policy"
    return None


def _check_model(found: MarkedValue) -> None:
    check_model(found.value)
    if isinstance(found.section, ModelConfig):
        refuse_continued_base(found.section)
    stored_shapes(found.value)


def _check_tokenizer(found: MarkedValue) -> None:
    check_model(found.value, is_tokenizer=True)


def _check_reward_model(found: MarkedValue) -> None:
    check_model(found.value)
    refuse_untrained_head(found.value, has_reward_head(found.value))


def _check_classifier(found: MarkedValue) -> None:
    check_model(found.value)
    if not is_classifier(found.value, getattr(found.section, "trust_remote_code", False)):
        raise PlauditError(f"{found.value}: this is not a sequence classifier; name a trained one")


def _check_data(found: MarkedValue) -> None:
    check_source(found.value)


def _check_file(found: MarkedValue) -> None:
    check_file(Path(found.value))


def _check_format(found: MarkedValue) -> None:
    if found.value != "auto":
        FORMATS[found.value]


def _check_function(found: MarkedValue) -> None:
    if isinstance(found.section, FunctionReward):
        load_function(found.section)
    else:
        import_function(found.value, found.place_text)


def _check_variable(found: MarkedValue) -> None:
    if found.value not in os.environ:
        raise PlauditError(f"the environment variable {found.value} is not set; export it")


def _check_program(found: MarkedValue) -> None:
    if shutil.which(found.value) is None:
        raise PlauditError(f"{found.value} is not a program; correct the path")


CHECKS: Mapping[str, Callable[[MarkedValue], None]] = {
    "model": _check_model,
    "tokenizer": _check_tokenizer,
    "reward model": _check_reward_model,
    "classifier": _check_classifier,
    "data": _check_data,
    "file": _check_file,
    "format": _check_format,
    "function": _check_function,
    "environment variable": _check_variable,
    "program": _check_program,
}
"""What raises PlauditError if a value of that kind cannot be used."""
