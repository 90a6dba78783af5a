"""Manifests: what in a run's folder Plaudit has made, and the checksums of a finished stage's files."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import PlauditError
from plaudit.files import json_text, read_json, sha256, write_atomically

MANIFEST = "manifest.json"


def recorded_stages(run_folder: Path) -> list[str]:
    """Return the stages whose folders in ``run_folder`` Plaudit has made; empty without a manifest.

    Raises PlauditError if the manifest is damaged.
    """
    path = run_folder / MANIFEST
    if not path.exists():
        return []
    stages = read_json(path, f"restore it, or delete {run_folder} yourself").get("stages")
    if not isinstance(stages, list) or not all(isinstance(name, str) for name in stages):
        raise PlauditError(f"{path}: not a manifest of a run; restore it, or delete {run_folder} yourself")
    return stages


def record_stages(run_folder: Path, stages: Collection[str]) -> None:
    """Write the manifest of a run."""
    write_atomically(run_folder / MANIFEST, json_text({"stages": sorted(stages)}, indent=2) + "\n")


def write_checksums(
    folder: Path, left_out: Collection[str], is_written: Callable[[str], bool], to_come: Mapping[str, str]
) -> None:
    """Write size and SHA-256 of the files in a folder, without those below folders named in ``left_out``.

    ``is_written``: whether Plaudit writes files of that name, relative to the folder; others are not recorded.
    ``to_come``: name -> text of files that will be written afterwards.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(path.relative_to(folder).parts) & {*left_out, MANIFEST}
        if is_written(path.relative_to(folder).as_posix())
    }
    for name, text in to_come.items():
        content = text.encode()
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(folder / MANIFEST, json_text({"files": files}, indent=2) + "\n")


def check_files(folder: Path, wanted: Path) -> None:
    """Check a file of a finished stage, or all files below a folder, against the stage's manifest.

    Raises PlauditError, with the file and what is wrong with it.
    """
    recorded = recorded_files(folder)
    below = {name for name in recorded if (folder / name).is_relative_to(wanted)}
    files = [wanted] if wanted.is_file() else [path for path in wanted.rglob("*") if path.is_file()]
    for path in files:
        if path.name != MANIFEST and path.relative_to(folder).as_posix() not in below:
            raise PlauditError(
                f"{path}: not in {folder / MANIFEST}, so it cannot be verified; move it out of {folder}, or repeat the "
                f"stage {folder.name} with --restart"
            )
    check_recorded(folder, below)


def check_recorded(folder: Path, names: Collection[str] | None = None) -> None:
    """Check the files that a stage's manifest records, or those with these names among them.

    Raises PlauditError, with the file and what is wrong with it.
    """
    for name, entry in recorded_files(folder).items():
        if (names is None or name in names) and (problem := file_problem(folder / name, entry)):
            raise PlauditError(f"{folder / name}: {problem}; {_remedy(folder)}")


def recorded_files(folder: Path) -> dict[str, Any]:
    """Return name -> size and checksum of a finished stage's files. Raises PlauditError for a damaged manifest."""
    recorded = read_json(folder / MANIFEST, _remedy(folder)).get("files")
    if not isinstance(recorded, dict):
        raise PlauditError(f"{folder / MANIFEST}: not a manifest of a stage; {_remedy(folder)}")
    return recorded


def _remedy(folder: Path) -> str:
    return f"restore it from a copy, or repeat the stage {folder.name} with --restart"


def file_problem(file: Path, entry: Any) -> str | None:
    """Return how a file differs from its entry in a manifest; None if it does not."""
    if not file.is_file():
        return "missing"
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
        return "the manifest has no size and checksum of it"
    if file.stat().st_size != entry["bytes"]:
        return f"{file.stat().st_size} bytes instead of {entry['bytes']}"
    return None if sha256(file) == entry["sha256"] else "checksum differs from the manifest's"
