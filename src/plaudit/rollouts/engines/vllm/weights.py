"""Sends a model's weights to servers: through a file that they can read, or by broadcast in a process group."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from plaudit.errors import PlauditError, one_line
from plaudit.rollouts.engines.vllm.client import Client, post_each, post_to_all
from plaudit.rollouts.engines.vllm.plugin.plaudit_vllm.group import JOIN, Group, address_towards, wait_for_members

SHARED_MEMORY = Path("/dev/shm")
INIT = "/init_weight_transfer_engine"
SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "int32": "I32"}
SAFETENSORS |= {"int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
"""Types of tensors in a safetensors file."""

Weights = Iterable[tuple[str, Tensor]]
Entry = tuple[str, str, list[int]]
"""Name, type and shape of a tensor."""


class Channel(Protocol):
    """A way from the trainer to the servers; tensors on ``device`` take it one by one."""

    device: torch.device

    def announce(self, version: str, entries: Sequence[Entry], tensors: Iterator[Tensor]) -> dict[str, Any]:
        """Return what the servers are told before they change anything, in addition to version and entries."""
        ...

    def transfer(self, version: str, tensors: Iterator[Tensor], finish: Callable[[], Any]) -> None:
        """Let ``finish`` make the servers apply the weights, and send these meanwhile if they are not there yet."""
        ...


def send_weights(
    clients: Sequence[Client], channel: Channel, version: str, weights: Weights, dtype: torch.dtype
) -> None:
    """Replace the weights of all servers; floating-point tensors are converted to ``dtype``.

    The servers pause meanwhile, and compare names, types and shapes before they change the model. ``weights`` is read
    twice. Raises PlauditError if a step fails.
    """
    entries = [
        (name, str(_sent_type(tensor, dtype)).removeprefix("torch."), list(tensor.shape)) for name, tensor in weights
    ]

    def tensors() -> Iterator[Tensor]:
        return (each.detach().to(channel.device, _sent_type(each, dtype)).contiguous() for _, each in weights)

    post_to_all(clients, "/pause?mode=wait")
    post_to_all(clients, "/start_weight_update")
    info = {"version": version, "tensors": entries, **channel.announce(version, entries, tensors())}
    post_to_all(clients, "/update_weights", {"update_info": info})
    finish = partial(post_to_all, clients, "/finish_weight_update", {"weight_version": version})
    channel.transfer(version, tensors(), finish)
    for client, reset in zip(clients, post_to_all(clients, "/reset_prefix_cache"), strict=True):
        if isinstance(reset, dict) and reset.get("success") is False:
            raise client.error("/reset_prefix_cache", "did not empty the cache of the old weights")
    post_to_all(clients, "/resume")


class FileChannel:
    """A file in ``folder`` that the servers read."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self._file = folder / "weights.safetensors"

    def announce(self, version: str, entries: Sequence[Entry], tensors: Iterator[Tensor]) -> dict[str, Any]:
        """Write the file."""
        with self._file.open("wb") as file:
            file.write(_header(version, entries))
            for tensor in tensors:
                file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return {"file": str(self._file)}

    def transfer(self, version: str, tensors: Iterator[Tensor], finish: Callable[[], Any]) -> None:
        """Delete the file when the servers have read it."""
        finish()
        self._file.unlink()


class BroadcastChannel:
    """A process group of this process and the workers of all servers; each tensor goes to all of them at once."""

    def __init__(self, group: Group, device: torch.device) -> None:
        self._group, self.device = group, device

    @classmethod
    def open(cls, clients: Sequence[Client], device: torch.device, seconds: float) -> "BroadcastChannel":
        """Form the group. Raises PlauditError if a server does not join it within ``seconds``."""
        sizes = [int(client.get("/get_world_size")["world_size"]) for client in clients]
        size = 1 + sum(sizes)
        own = [address_towards(client.host) for client in clients]
        host = next((address for address in own if not address.startswith("127.")), own[0])
        store = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=seconds), wait_for_workers=False)
        info = {"host": host, "port": store.port, "size": size, "seconds": seconds}
        inits = [{"init_info": {**info, "first_rank": size - sum(sizes[number:])}} for number in range(len(sizes))]
        with _meanwhile(lambda: post_each(clients, INIT, inits)) as check:
            wait_for_members(store, JOIN, size, check)
            group = Group(store, host, 0, size, device, seconds=seconds)
        return cls(group, device)

    def announce(self, version: str, entries: Sequence[Entry], tensors: Iterator[Tensor]) -> dict[str, Any]:
        """Send nothing before the servers have agreed."""
        return {}

    def transfer(self, version: str, tensors: Iterator[Tensor], finish: Callable[[], Any]) -> None:
        """Broadcast the tensors."""
        try:
            with _meanwhile(finish) as check:
                self._group.wait_for_members(version, check)
                for tensor in tensors:
                    self._group.broadcast(tensor)
        except BaseException:
            self._group.close()  # a server that waits for a tensor would wait for its whole timeout
            raise


def transfer_folder(size: int) -> Path:
    """Return a new folder for a file of ``size`` bytes: in shared memory if there is room, which is fastest."""
    has_room = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2 * size
    return Path(tempfile.mkdtemp(prefix="plaudit-vllm-", dir=SHARED_MEMORY if has_room else None))


@contextmanager
def _meanwhile(work: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Run ``work`` during the block, which gets a function that raises once ``work`` has ended too early.

    If the group breaks, the error of ``work`` is raised, because it names the server.
    """
    pool = ThreadPoolExecutor(1)
    running = pool.submit(work)
    pool.shutdown(wait=False)

    def check() -> None:
        if running.done():
            raise ConnectionError(f"the servers have answered before they joined: {running.result()}")

    try:
        yield check
    except ConnectionError as error:
        running.result()
        raise PlauditError(f"vLLM: the process group of the weights broke: {one_line(error)}") from error
    running.result()


def _sent_type(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype


def _header(version: str, entries: Sequence[Entry]) -> bytes:
    """Return the beginning of a safetensors file: its length, types, shapes and offsets of the tensors."""
    header: dict[str, Any] = {"__metadata__": {"version": version}}
    start = 0
    for name, dtype, shape in entries:
        end = start + math.prod(shape) * getattr(torch, dtype).itemsize
        header[name] = {"dtype": SAFETENSORS[dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text
