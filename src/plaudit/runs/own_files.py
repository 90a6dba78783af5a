"""Which files in a stage's folder Plaudit has written. Everything else belongs to the user and is never deleted."""

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES
from plaudit.runs.manifest import MANIFEST, file_problem, recorded_files
from plaudit.runs.ownership import CONFIGURATION, is_configuration

OF_EVERY_STAGE = (
    *("metrics.jsonl", "samples.jsonl", "rejects.jsonl", "inputs.json", "notes.json", "result.json"),
    *(".models.json", ".data.json", "faulty-batch-*.jsonl", "model/*"),
)
_NOT_RECORDED = re.compile(
    r"checkpoints/step-\d+[^/]*/([^/]+\.safetensors|state\.json|manifest\.json)"
    r"|trackers/(.*tfevents[^/]*|.*hparams\.ya?ml|(.*/)?wandb/.+)"
    rf"|{re.escape(MANIFEST)}|(.*/)?\.[^/]+\.unfinished|reference\.unfinished"
)
_OF_MODELS = re.compile(r".*\.(safetensors|json|jinja|model)|README\.md|vocab\.txt|merges\.txt")
_MEMBER = re.compile(r"member-\d+")


def is_written(stage: str, name: str) -> bool:
    """Whether a stage writes files called ``name``, relative to its folder or to that of a member of its ensemble."""
    first, _, rest = name.partition("/")
    inner = rest if _MEMBER.fullmatch(first) else name
    patterns = (*OF_EVERY_STAGE, *STAGES[stage].files) if stage in STAGES else ("*",)
    return any(fnmatchcase(inner, pattern) for pattern in patterns)


def other_files(folder: Path, stage: str) -> Iterator[Path]:
    """Yield what is not Plaudit's in a stage's folder, or in that of a member of its ensemble.

    These are files that no stage writes, symbolic links, and files that have changed since the stage finished.
    """
    recorded = None
    if (folder / MANIFEST).is_file():
        try:
            recorded = recorded_files(folder)
        except PlauditError:  # damaged: as in a stage that has not finished
            recorded = None
    for parent, folders, files in os.walk(folder):
        yield from (path for name in folders if (path := Path(parent, name)).is_symlink())
        members = [name for name in folders if Path(parent) == folder and _MEMBER.fullmatch(name)]
        for name in members:
            folders.remove(name)
            if not (folder / name).is_symlink():
                yield from other_files(folder / name, stage)
        for path in (Path(parent, name) for name in files):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not _is_own(path, name, stage, recorded):
                yield path


def _is_own(path: Path, name: str, stage: str, recorded: Mapping[str, object] | None) -> bool:
    if _NOT_RECORDED.fullmatch(name) or (name == CONFIGURATION and is_configuration(path)):
        return True
    if not is_written(stage, name):
        return False
    if recorded is None:
        return not name.startswith("model/") or _OF_MODELS.fullmatch(path.name) is not None
    return name in recorded and file_problem(path, recorded[name]) is None
