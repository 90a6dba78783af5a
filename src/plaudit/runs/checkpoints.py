"""Checkpoints that survive kill -9: written under a temporary name, verified by checksums, renamed when complete.

A checkpoint is a folder ``step-00000012`` with safetensors files, ``state.json`` and ``manifest.json``, which holds the
size and SHA-256 of every other file. Nothing in it is pickled. Several processes may write separate files into it.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.errors import PlauditError
from plaudit.files import read_json, sha256, synchronize
from plaudit.permissions import follow_umask
from plaudit.runs.disk_space import check_free_space
from plaudit.runs.manifest import MANIFEST, file_problem

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
REPLACED = ".replaced"


@dataclass(frozen=True)
class Checkpoint:
    """The saved ``tensors[file][name]`` and ``state`` (JSON values) after optimizer step ``step``."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


# Saving ---------------------------------------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int,
    is_main: bool = True,
    wait_for_everyone: Callable[[], None] = lambda: None,
) -> Path:
    """Save a checkpoint and delete all but the ``keep`` newest; return its folder.

    Args:
        folder: holds the checkpoints of one stage; only one run may write to it at a time.
        step: the number of finished optimizer steps.
        tensors: name of a file -> name -> tensor, of any dtype, shape and device. Two names in one file must not share
            a tensor (tied weights): save one of them. File names must differ between processes; a process may have no
            files.
        state: must survive JSON unchanged: string keys, lists, no NaN. Floats keep every bit.
        keep: number of newest checkpoints to keep, including this one. Checkpoints of later steps are deleted: they are
            obsolete, because the stage was resumed from an older one.
        is_main: whether this is the main process, which does everything except writing the other processes' tensors.
        wait_for_everyone: returns when every process of the run has called it.

    Raises:
        PlauditError: the disk has no room for the checkpoint.
        ValueError: two names share a tensor, or JSON would change the state.
    """
    from safetensors.torch import save_file

    final = folder / f"step-{step:08d}"
    unfinished = final.with_name(final.name + UNFINISHED)
    size = sum(tensor.numel() * tensor.element_size() for named in tensors.values() for tensor in named.values())
    if is_main:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        check_free_space(folder, size, "needs room for a checkpoint")
        unfinished.mkdir()
    wait_for_everyone()
    for name, named_tensors in tensors.items():
        file = unfinished / f"{name}.safetensors"
        save_file(_saveable(named_tensors, name), file)
        follow_umask(file)
        synchronize(file)
    wait_for_everyone()
    if is_main:
        (unfinished / "state.json").write_text(_state_text(step, state), encoding="utf-8")
        _write_manifest(unfinished)
        for path in (unfinished / "state.json", unfinished / MANIFEST, unfinished):
            synchronize(path)
        _put_in_place(unfinished, final)
        _delete_superseded(folder, step, keep)
    return final


def _saveable(named_tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return contiguous CPU tensors. Raises ValueError if two names share one."""
    name_of: dict[tuple[Any, ...], str] = {}
    saveable = {}
    for name, tensor in named_tensors.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and memory in name_of:
            raise ValueError(f"{file}: {name} and {name_of[memory]} share one tensor; save only one of them")
        name_of[memory] = name
        saveable[name] = tensor.detach().cpu().contiguous()
    return saveable


def _state_text(step: int, state: Mapping[str, Any]) -> str:
    text = json.dumps({"step": step, "state": dict(state)})
    if json.loads(text)["state"] != dict(state):
        raise ValueError("JSON would change the state: use string keys and lists, not tuples or NaN")
    return text


def _write_manifest(folder: Path) -> None:
    files = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2), encoding="utf-8")


def _put_in_place(unfinished: Path, final: Path) -> None:
    """Rename to the final name. An older checkpoint of the same step is renamed first and stays valid until then."""
    replaced = final.with_name(final.name + REPLACED)
    if final.exists():
        _discard(replaced)
        os.rename(final, replaced)
    os.rename(unfinished, final)
    synchronize(final.parent)


def remove_leftovers(folder: Path, step: int, keep: int) -> None:
    """Delete what a kill left behind: unfinished checkpoints, and those that ``step``, which is resumed from, replaces.

    ``keep`` is as for ``save_checkpoint``.
    """
    _remove_unfinished(folder)
    _delete_superseded(folder, step, keep)


def _delete_superseded(folder: Path, step: int, keep: int) -> None:
    candidates = list(_candidates(folder))
    older = [path for path, its_step, replaced in candidates if its_step <= step and not replaced]
    for path, _, _ in candidates:
        if path not in older[: max(keep, 1)]:
            _discard(path)


def _discard(path: Path) -> None:
    """Rename a checkpoint, then delete it, so that a kill never leaves part of it under its name."""
    if path.exists():
        doomed = path.with_name(path.name + UNFINISHED)
        os.rename(path, doomed)
        _delete(doomed)


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"step-*{UNFINISHED}"):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    _keep_others(path)
    shutil.rmtree(path)


def _keep_others(checkpoint: Path) -> None:
    """Move what Plaudit has not written out of a checkpoint that is about to be deleted."""
    place = checkpoint.with_name(f"kept-{checkpoint.name.partition('.')[0]}")
    for path in sorted(checkpoint.iterdir()):
        if path.suffix != ".safetensors" and path.name not in ("state.json", MANIFEST):
            place.mkdir(exist_ok=True)
            new = next(new for n in count() if not (new := place / f"{path.name}{f'.{n}' * (n > 0)}").exists())
            os.rename(path, new)
            logger.warning("%s: not written by Plaudit, so it is kept as %s", path.name, new)


# Loading --------------------------------------------------------------------------------------------------------------


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest intact checkpoint, or None if there is no finished one.

    Damaged checkpoints are skipped with a warning. Raises ``PlauditError`` if all checkpoints are damaged.
    """
    reason = None
    for path, _, _ in _candidates(folder):
        reason = _damage(path)
        if reason is None:
            return path
        logger.warning("skipped a damaged checkpoint: %s/%s", path, reason)
    if reason is not None:
        raise PlauditError(f"{folder}: every checkpoint is damaged; delete this folder to start the stage over")
    return None


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", files: Collection[str] | None = None, verify: bool = True
) -> Checkpoint:
    """Load a checkpoint with its tensors on ``device``.

    With ``files``, only the tensors of these files are loaded; names without a file are ignored. Raises
    ``PlauditError`` if a file differs from what was written. ``verify=False`` skips this check, which reads every byte,
    for a checkpoint that ``latest_checkpoint`` has just returned.
    """
    from safetensors.torch import load_file

    reason = _damage(path) if verify else None
    if reason is not None:
        raise PlauditError(f"{path}/{reason}; delete this checkpoint to resume from the previous one")
    saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
    wanted = [file for file in sorted(path.glob("*.safetensors")) if files is None or file.stem in files]
    tensors = {file.stem: load_file(file, device=str(device)) for file in wanted}
    return Checkpoint(saved["step"], tensors, saved["state"])


def _damage(path: Path) -> str | None:
    """Return a damaged file and the reason, or None for an intact checkpoint."""
    try:
        recorded = read_json(path / MANIFEST, "").get("files")
    except PlauditError:
        return f"{MANIFEST}: {'unreadable' if (path / MANIFEST).is_file() else 'missing'}"
    if not isinstance(recorded, dict):
        return f"{MANIFEST}: unreadable"
    for name in sorted({"state.json", *(file.name for file in path.glob("*.safetensors"))} - recorded.keys()):
        return f"{MANIFEST}: has no entry for {name}"
    for name, entry in recorded.items():
        if problem := file_problem(path / name, entry):
            return f"{name}: {problem}"
    return None


def _candidates(folder: Path) -> Iterator[tuple[Path, int, bool]]:
    """Yield the complete checkpoints, newest first: folder, step, whether a newer one of the same step replaces it."""
    pattern = re.compile(rf"step-(\d+)({re.escape(REPLACED)})?")
    matches = [(path, pattern.fullmatch(path.name)) for path in folder.glob("step-*") if path.is_dir()]
    found = [(path, int(match[1]), match[2] is not None) for path, match in matches if match]
    yield from sorted(found, key=lambda candidate: (-candidate[1], candidate[2]))
