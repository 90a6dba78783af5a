"""Notices that the content of a model folder or of data changed between the start of a stage and its continuation."""

import hashlib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from plaudit.config.marks import marked_values
from plaudit.config.schema import Section
from plaudit.errors import PlauditError
from plaudit.files import json_text, read_json, sha256, state_of, write_atomically
from plaudit.models.adapters.folder import adapter_task, base_name
from plaudit.registries.stages import restart_command

FILE = ".models.json"
DATA_FILE = ".data.json"
NAMED = ("model", "reward model", "classifier")
READ = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")


def record_or_check_models(stage: Path, section: Section, begun: bool) -> None:
    """Record the content of the local models that ``section`` names; for a stage that has ``begun``, compare with it.

    The base of an adapter is recorded with it. Files whose size and time of change are the recorded ones are not read
    again. Raises PlauditError, with the folder, if the content changed.
    """
    file = stage / FILE
    recorded = _recorded(file, stage.name, {"files", "sha256"}) if begun and file.is_file() else {}
    folders = {found.value for found in marked_values(section) if found.marks.get("names") in NAMED}
    folders |= {base_name(Path(folder)) for folder in folders if adapter_task(folder) is not None}
    now = {folder: _content(Path(folder), recorded.get(folder)) for folder in sorted(folders) if Path(folder).is_dir()}
    for folder, content in now.items():
        before = recorded.get(folder, content)
        if before["sha256"] != content["sha256"]:
            raise PlauditError(
                f"{folder}: the files of this model changed since {stage.name} began; restore them, or repeat "
                f"{stage.name} with: {restart_command(stage.name)}"
            )
    write_atomically(file, json_text(recorded | now) + "\n")


def record_or_check_data(stage: Path, checksums: Mapping[str, Mapping[str, Any]], begun: bool) -> None:
    """Record the checksums of the data sources of a stage, by path; for a stage that has ``begun``, compare with them.

    Raises PlauditError, with the path, if the content changed: the steps that are left would see other rows.
    """
    file = stage / DATA_FILE
    recorded = _recorded(file, stage.name, {"sha256"}) if begun and file.is_file() else {}
    for path, content in checksums.items():
        if recorded.get(path, content)["sha256"] != content["sha256"]:
            raise PlauditError(
                f"{path}: changed since {stage.name} began; restore its former content, or repeat {stage.name} with: "
                f"{restart_command(stage.name)}"
            )
    write_atomically(file, json_text({**recorded, **checksums}) + "\n")


def _recorded(file: Path, stage: str, keys: Set[str]) -> dict[str, Any]:
    remedy = f"restore it, or repeat {stage} with: {restart_command(stage)}"
    recorded = read_json(file, remedy)
    if not all(isinstance(entry, dict) and keys <= entry.keys() for entry in recorded.values()):
        raise PlauditError(f"{file}: damaged, an entry without {' and '.join(sorted(keys))}; {remedy}")
    return recorded


def _content(folder: Path, before: Any) -> dict[str, Any]:
    """Return sizes, times and a checksum of a model's files; all as ``before`` if sizes and times are the same."""
    files = sorted(path for path in folder.iterdir() if path.suffix in READ and path.is_file())
    states = {path.name: state_of(path) for path in files}
    if before is not None and before["files"] == states:
        return dict(before)
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.name} {sha256(path)}\n".encode())
    return {"files": states, "sha256": whole.hexdigest()}
