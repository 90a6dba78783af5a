"""Reads which tensors a model folder holds, from the headers of its files and without transformers."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plaudit.data.readers.opening import check_file
from plaudit.errors import PlauditError, one_line
from plaudit.hub import is_hub_name

MODEL_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INDEX = ".index.json"
SAFETENSORS = ".safetensors"
LFS_MARK = b"version https://git-lfs"
LARGEST_POINTER = 1024  # bytes; a pointer of Git LFS has about 130
HEADER_LENGTH = 8  # bytes of the number at the start of a safetensors file

Shape = tuple[int, ...]
Find = Callable[[str], Path | None]


def stored_shapes(path: str, names: tuple[str, ...] = MODEL_WEIGHTS) -> dict[str, Shape]:
    """Return name -> shape of every tensor in the weights of a folder or of a cached hub model.

    ``names`` are the files with weights that may be there, in the order of preference of the libraries. The result is
    empty if there is none of them. Raises PlauditError, which begins with the file, for a damaged file.
    """
    shapes: dict[str, Shape] = {}
    for file in weight_files(path, names):
        shapes |= _shapes_of(file)
    return shapes


def weight_files(path: str, names: tuple[str, ...]) -> list[Path]:
    """Return the files that the libraries would load: the first of ``names``, whole or in the parts of its index."""
    find = _cached(path) if is_hub_name(path) else _inside(Path(path))
    for name in names:
        if file := find(name):
            return [file]
        if index := find(name + INDEX):
            return _parts(index, find)
    return []


def refuse_substitutes(folder: Path) -> None:
    """Raise PlauditError if the folder holds a pointer of Git LFS, a pipe or a link to nowhere instead of a file."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.is_dir():
            continue
        check_file(file)
        if file.stat().st_size <= LARGEST_POINTER and file.read_bytes().startswith(LFS_MARK):
            raise PlauditError(f"{file}: a pointer of Git LFS, not the file itself; run in its folder: git lfs pull")


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises PlauditError, which begins with the file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        raise PlauditError(f"{file}: not valid JSON ({one_line(fault)}); copy the file again") from fault
    if not isinstance(content, dict):
        raise PlauditError(f"{file}: holds no JSON object; copy the file again")
    return content


def _inside(folder: Path) -> Find:
    return lambda name: folder / name if (folder / name).is_file() else None


def _cached(name: str) -> Find:
    from huggingface_hub import try_to_load_from_cache

    def find(file: str) -> Path | None:
        cached = try_to_load_from_cache(name, file)
        return Path(cached) if isinstance(cached, str) else None

    return find


def _parts(index: Path, find: Find) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise PlauditError(f"{index}: has no weight_map; copy the file again")
    parts = {str(name): find(str(name)) for name in sorted(set(weight_map.values()))}
    missing = [name for name, file in parts.items() if file is None]
    if missing:
        raise PlauditError(
            f"{index}: {len(missing)} of the {len(parts)} files that it names are not there, such as {missing[0]}; "
            "copy them to this folder"
        )
    found = [file for file in parts.values() if file is not None]
    lacking = weight_map.keys() - {name for file in found for name in _shapes_of(file)}
    if lacking:
        example = min(lacking)
        raise PlauditError(
            f"{index}: {len(lacking)} tensors are not in the files that it names, such as {example} in "
            f"{weight_map[example]}; copy the files again"
        )
    return found


def _shapes_of(file: Path) -> dict[str, Shape]:
    if file.stat().st_size == 0:
        raise PlauditError(f"{file}: an empty file; copy it again")
    with file.open("rb") as opened:
        if opened.read(len(LFS_MARK)) == LFS_MARK:
            raise PlauditError(f"{file}: a pointer of Git LFS, not the weights; run in its folder: git lfs pull")
    return _safetensors_shapes(file) if file.suffix == SAFETENSORS else _pickled_shapes(file)


def check_safetensors(file: Path) -> None:
    """Raise PlauditError, which begins with the file, if it is not a whole safetensors file."""
    _shapes_of(file)


def _safetensors_shapes(file: Path) -> dict[str, Shape]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as fault:
        raise PlauditError(f"{file}: {_damage(file) or one_line(fault)}; copy the file again") from fault


def _damage(file: Path) -> str | None:
    """Return what is wrong with a safetensors file: its length, header, or None if neither."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        header_length = int.from_bytes(opened.read(HEADER_LENGTH), "little")
        if size < HEADER_LENGTH or header_length > 100_000_000:
            return "not a safetensors file"
        header = opened.read(header_length)
    if len(header) < header_length:
        return f"cut off after {size} bytes, within its header"
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in json.loads(header).items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return "its header is damaged"
    expected = HEADER_LENGTH + header_length + max(ends, default=0)
    return f"has {size} bytes instead of {expected}" if size != expected else None


def _pickled_shapes(file: Path) -> dict[str, Shape]:
    import torch

    try:
        # Without the tensors' values; the older format of torch cannot be mapped.
        content = torch.load(file, "meta", weights_only=True, mmap=True if zipfile.is_zipfile(file) else None)
    except Exception as fault:  # a damaged pickle can fail in any way
        raise PlauditError(
            f"{file}: damaged, or it holds more than tensors ({type(fault).__name__}); copy it again, or convert it to "
            "safetensors"
        ) from fault
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise PlauditError(f"{file}: holds no dictionary of tensors; convert the model to safetensors")
    return {str(name): tuple(tensor.shape) for name, tensor in content.items()}
