"""Metadata of a run: versions, machine, code revision and data checksums."""

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch

from plaudit.config.schema import Recipe, Section, SourceConfig
from plaudit.data.readers.shards import is_pattern, listed, size_of
from plaudit.errors import PlauditError
from plaudit.files import json_text, read_json, sha256, write_atomically

logger = logging.getLogger(__name__)

REMEDY = "delete it to have a new one written, without the earlier timings; no result depends on it"

FORMER = "former_data"
"""The key of the checksums that changed data had when the run began."""

PACKAGES = (
    *("plaudit", "torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "safetensors", "numpy"),
    *("pydantic", "matplotlib", "deepspeed", "bitsandbytes", "tensorboard", "wandb", "vaderSentiment"),
)


def collect_metadata(recipe: Recipe, device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return a description of this process and of the recipe's local data files, without environment variables."""
    return {
        "name": recipe.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
        "versions": installed_versions(),
        "plaudit_revision": plaudit_revision(),
        "git_revision": git_revision(Path.cwd()),
        "data": data_checksums(recipe),
        "stages": {},
    }


def begin_metadata(path: Path, collected: Mapping[str, Any], begun: Sequence[Section]) -> None:
    """Write the metadata file. For a resumed run, update it and keep its start time and timings.

    Warns about changed versions, and about changed data of the stages that have ``begun``, because the resumed run is
    then not reproducible; about data every time, as long as their content is not restored. A stage that failed before
    it began has used nothing.
    """
    if not path.exists() or not begun:
        write_metadata(path, collected)
        return
    old = read_metadata(path)
    used = {source.path for section in begun for source in _sources(section)}
    data = {name: entry for name, entry in {**old.get("data", {}), **old.get(FORMER, {})}.items() if name in used}
    _warn_about_changes("versions of", old.get("versions", {}), collected["versions"])
    former = _warn_about_changes("data in", data, collected["data"])
    new = {key: value for key, value in collected.items() if key not in ("started", "stages")}
    kept = {key: value for key, value in _merged(old, new).items() if key != FORMER}
    write_metadata(path, kept | ({FORMER: former} if former else {}))


def _warn_about_changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Warn about the entries that differ now, and return their values from before."""
    former = {name: before[name] for name in sorted(before) if now.get(name, before[name]) != before[name]}
    if former:
        logger.warning(
            "the %s %s changed since the run began; results may differ from those of an uninterrupted run",
            *(what, _and(list(former))),
        )
    return former


def warn_about_changed_data(path: Path, sections: Mapping[str, Section], when: str) -> None:
    """Warn about local data files of these stages that differ from the checksums in the metadata file."""
    recorded = read_metadata(path).get("data", {})
    for stage, section in sections.items():
        now = data_checksums(section)
        gone = {source.path for source in _sources(section)} & recorded.keys() - now.keys()
        if changed := sorted({file for file, found in now.items() if recorded.get(file, found) != found} | gone):
            logger.warning(
                "%s: the data in %s changed while the run was in progress (noticed %s); the results of %s cannot be "
                "repeated; restore the former content, or repeat the stage with --restart",
                *(stage, _and(changed), when, stage),
            )


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the content of the file. Raises PlauditError if it is damaged."""
    content = read_json(path, REMEDY)
    for key in ("versions", "data", "stages", FORMER):
        if not isinstance(content.get(key, {}), dict):
            raise PlauditError(f"{path}: damaged, {key} is not an object; {REMEDY}")
    return content


def write_metadata(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file atomically."""
    write_atomically(path, json_text(content, indent=2) + "\n")


def update_metadata(path: Path, changes: Mapping[str, Any]) -> None:
    """Merge ``changes`` into the file, key by key, such as ``{"stages": {"sft": {"seconds": 12.5}}}``."""
    write_metadata(path, _merged(read_metadata(path), changes))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(old[key], new[key]) for key in old.keys() & new.keys() if isinstance(new[key], Mapping)}
    return {**old, **new, **both}


# What is collected ----------------------------------------------------------------------------------------------------


def data_checksums(section: Section) -> dict[str, dict[str, Any]]:
    """Return path -> SHA-256 and size in bytes of every data source in ``section`` that is on disk.

    For a folder or a pattern, they are those of all its files, whose number is ``files``.
    """
    return {path: _content(path) for path in data_paths(section) if Path(path).exists() or is_pattern(path)}


def data_paths(section: Section) -> list[str]:
    """Return the paths and names of the data sources in ``section``, each once."""
    return sorted({source.path for source in _sources(section)})


def _content(path: str) -> dict[str, Any]:
    if Path(path).is_file():
        return {"sha256": sha256(Path(path)), "bytes": Path(path).stat().st_size}
    files = [file for file in listed(path) if file.is_file()]
    names = "".join(f"{sha256(file)}  {file}\n" for file in files)
    return {"sha256": hashlib.sha256(names.encode()).hexdigest(), "bytes": size_of(files), "files": len(files)}


def _sources(value: Any) -> Iterator[SourceConfig]:
    if isinstance(value, SourceConfig):
        yield value
    elif isinstance(value, Section):
        for _, inner in value:
            yield from _sources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _sources(inner)


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that results may depend on."""
    installed = {name: next(iter(packages.distributions(name=name)), None) for name in PACKAGES}
    return {name: distribution.version for name, distribution in installed.items() if distribution is not None}


def git_revision(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``-dirty`` if tracked files differ; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def plaudit_revision() -> str | None:
    """Return the commit that Plaudit itself runs from; None for an installed package."""
    package = Path(__file__).parents[1]
    if shutil.which("git") is None:
        return None
    # The package may be installed inside the checkout of another repository, whose revision would be wrong.
    command = ["git", "ls-files", "--error-unmatch", "__init__.py"]
    is_tracked = subprocess.run(command, cwd=package, capture_output=True, check=False).returncode == 0
    return git_revision(package) if is_tracked else None


def cpu_name() -> str:
    """Return the processor's name, such as ``AMD EPYC 7763 64-Core Processor``."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the type of device, with the name of a GPU."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
