"""A process group of the trainer and the servers' workers, which no other group of these processes knows.

The trainer imports this file as a part of plaudit, a server as a part of the plug-in. It therefore imports torch alone.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.distributed_c10d import BroadcastOptions, ProcessGroupGloo

JOIN = "join"
PAUSE = 0.001  # seconds between two looks at who is ready


class Group:
    """Sends tensors from rank 0 to all others: over gloo on a CPU, over NCCL between CUDA devices.

    Raises ConnectionError if another member dies or does not answer within ``seconds``.
    """

    def __init__(
        self, store: TCPStore, host: str, rank: int, size: int, device: torch.device, *, seconds: float
    ) -> None:
        """Join; returns when all ``size`` members have joined. ``host`` is an address of the trainer."""
        self._store, self._rank, self._size = store, rank, size
        timeout, of_group = timedelta(seconds=seconds), PrefixStore("group", store)
        with _connection_errors():
            if device.type == "cuda":
                self._group = _nccl(of_group, rank, size, timeout)
            else:
                self._group = _gloo(of_group, host, rank, size, timeout)

    def broadcast(self, tensor: Tensor) -> None:
        """Send a contiguous tensor on the group's device from rank 0, or receive it in place."""
        if not tensor.numel():
            return
        options = BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        with _connection_errors():
            self._group.broadcast([tensor.reshape(-1).view(torch.uint8)], options).wait()

    def close(self) -> None:
        """Leave: the others get an error."""
        del self._group

    def report_ready(self, step: str) -> None:
        """Tell rank 0 that this member waits for the tensors of ``step``."""
        report_ready(self._store, step, self._rank)

    def wait_for_members(self, step: str, check: Callable[[], None]) -> None:
        """Return when all members are ready for ``step``; ``check`` is called meanwhile and raises to stop."""
        wait_for_members(self._store, step, self._size, check)


def _gloo(store: PrefixStore, host: str, rank: int, size: int, timeout: timedelta) -> Any:
    options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=address_towards(host))]
    options._timeout = timeout
    return ProcessGroupGloo(store, rank, size, options)


def _nccl(store: PrefixStore, rank: int, size: int, timeout: timedelta) -> Any:
    from torch.distributed.distributed_c10d import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = timeout
    return ProcessGroupNCCL(store, rank, size, options)


@contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo, which has no other class of errors
        raise ConnectionError(str(error)) from error


def report_ready(store: TCPStore, step: str, rank: int) -> None:
    """Tell rank 0 that member ``rank`` waits for ``step``."""
    store.set(f"{step}/{rank}", "ready")


def wait_for_members(store: TCPStore, step: str, size: int, check: Callable[[], None]) -> None:
    """Return when all members but rank 0 are ready for ``step``; ``check`` is called meanwhile and raises to stop."""
    keys = [f"{step}/{rank}" for rank in range(1, size)]
    while not store.check(keys):
        check()
        time.sleep(PAUSE)
    for key in keys:
        store.delete_key(key)


def address_towards(host: str) -> str:
    """Return this machine's address in the network through which it reaches ``host``."""
    family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # sends nothing
        return str(probe.getsockname()[0])
