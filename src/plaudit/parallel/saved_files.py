"""Reads the tensors of a checkpoint: whole files, or rows of tensors that are split over several files."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from plaudit.errors import PlauditError

WEIGHT = "weight"
"""The key of weights; the optimizer's keys are those of its state, such as ``exp_avg``."""

_SLICED = re.compile(r"(?P<key>[^/]+)/(?P<name>.+?)(\[(?P<start>\d+):\d+\])?")


def sliced_name(key: str, name: str, rows: range) -> str:
    """Return the name under which some rows of a tensor are stored: ``exp_avg/layer.weight[0:4]``."""
    return f"{key}/{name}[{rows.start}:{rows.stop}]"


@dataclass(frozen=True)
class _Part:
    """A stored tensor, with the row of the named tensor at which it starts."""

    file: str
    stored_name: str
    start: int
    shape: Sequence[int]

    @property
    def rows(self) -> range:
        """Its rows of the named tensor."""
        return range(self.start, self.start + self.shape[0])


class SavedFiles:
    """The safetensors files in a folder. Files are opened when they are read, and only what is asked for is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {path.stem for path in folder.glob("*.safetensors")}

    def require(self, names: Collection[str]) -> None:
        """Raise PlauditError if one of these files is missing."""
        if not set(names) <= self.names:
            raise self.unreadable()

    def unreadable(self) -> PlauditError:
        """Return the error of a strategy that cannot read these files."""
        return PlauditError(
            f"{self.folder.parent}: written with another number of processes or another `distributed` setting; resume "
            "with the same ones, or delete this folder to start the stage over"
        )

    def load(self, file: str) -> dict[str, Tensor]:
        """Return all tensors of a file."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{file}.safetensors")

    # Named tensors, whole or in rows ---------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> dict[tuple[str, str], list[_Part]]:
        """The stored parts of every tensor, by key and name, in the order of their rows."""
        parts: dict[tuple[str, str], list[_Part]] = {}
        for file, stored_name, shape in self._stored():
            match = _SLICED.fullmatch(f"{WEIGHT}/{stored_name}" if file == "model" else stored_name)
            assert match is not None
            part = _Part(file, stored_name, int(match["start"] or 0), shape)
            parts.setdefault((match["key"], match["name"]), []).append(part)
        return {path: sorted(own, key=lambda part: part.start) for path, own in parts.items()}

    def _stored(self) -> Iterator[tuple[str, str, Sequence[int]]]:
        from safetensors import safe_open

        own = {"model", "optimizer"} if {"model", "optimizer"} <= self.names else _complete_shards(self.names)
        if not own:
            raise self.unreadable()
        for file in sorted(own):
            with safe_open(self.folder / f"{file}.safetensors", "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    yield file, name, opened.get_slice(name).get_shape()

    def optimizer_keys(self, name: str) -> list[str]:
        """Return the keys of the optimizer's state for a parameter."""
        return [key for key, its_name in self._parts if its_name == name and key != WEIGHT]

    def rows(self, key: str, name: str, rows: range | None = None) -> Tensor:
        """Return some rows of a tensor; all of it by default, and where it is a scalar.

        Raises PlauditError if the files lack some of them.
        """
        from safetensors import safe_open

        parts = self._parts.get((key, name), [])
        if not parts:
            raise self.unreadable()
        wanted = range(parts[-1].rows.stop) if rows is None and parts[0].shape else rows
        found = []
        for part in parts:
            with safe_open(self.folder / f"{part.file}.safetensors", "pt") as opened:
                if not part.shape:
                    scalar: Tensor = opened.get_tensor(part.stored_name)
                    return scalar
                assert wanted is not None
                first, last = max(wanted.start, part.start), min(wanted.stop, part.rows.stop)
                if first < last:
                    found.append(opened.get_slice(part.stored_name)[first - part.start : last - part.start])
        assert wanted is not None
        if sum(map(len, found)) != len(wanted):
            raise self.unreadable()
        return torch.cat(found) if found else torch.empty(0, *parts[0].shape[1:])


def _complete_shards(names: Collection[str]) -> set[str]:
    """Return the names of the shards, ``shard-1-of-N`` to ``shard-N-of-N``, if none is missing."""
    shards = {name for name in names if name.startswith("shard-")}
    counts = {int(name.rpartition("-")[2]) for name in shards}
    return shards if counts == {len(shards)} else set()
