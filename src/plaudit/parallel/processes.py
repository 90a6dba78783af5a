"""The processes of a run: rank, device and collectives."""

import atexit
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from plaudit.errors import PlauditError, one_line

WAIT_LIMIT = timedelta(hours=6)
"""How long a process waits for the others in a collective.

Sometimes one process works while the others wait: it saves a model, fits the baselines of a reward model, or calls a
user's slow reward function. torch's default limits (NCCL: 10 minutes) would end the run. If a process fails, the
launcher ends the others immediately, regardless of the limit.
"""

Result = TypeVar("Result")

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


class Processes(ABC):
    """The processes that train together. All of them must call every method except ``shard`` in the same order.

    ``rank`` and ``count`` number all processes. Those with the same data rank form one unit, which computes the same
    rows together: with tensor parallelism, they hold parts of one model.
    """

    rank: int
    count: int
    device: torch.device
    data_ranks: Sequence[int]
    """The data rank of every process, by rank; the data ranks are 0, 1, …"""

    @property
    def data_rank(self) -> int:
        """The data rank of this process."""
        return self.data_ranks[self.rank]

    @property
    def data_count(self) -> int:
        """The number of data ranks."""
        return max(self.data_ranks) + 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of the ranks."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return the main process's value."""

    @abstractmethod
    def sum_in_place(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes; shape and type must be equal in all of them."""

    @abstractmethod
    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether it is true in any process."""

    @abstractmethod
    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return every process's numbers, in the order of the ranks; all processes have equally many."""

    @abstractmethod
    def most(self, number: int) -> int:
        """Return the largest of all processes' numbers."""

    @abstractmethod
    def wait_for_everyone(self) -> None:
        """Return when every process has called this."""

    def from_main(self, compute: Callable[[], Result]) -> Result:
        """Return what ``compute`` returns in the main process. If it fails there, every process raises an error."""
        result: Result | None = None
        failure: Exception | None = None
        text = None
        if self.is_main:
            try:
                result = compute()
            except Exception as error:
                failure = error
                text = str(error) if isinstance(error, PlauditError) else f"the main process failed: {one_line(error)}"
        result, text = self.broadcast((result, text))
        if text is not None:
            raise failure or PlauditError(text)
        return cast(Result, result)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        return self.any_of([flag])[0]

    def shard(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this data rank's shard of ``items``, which all processes hold: every ``data_count``-th."""
        return items[self.data_rank :: self.data_count]

    def merge_shards(self, own: Sequence[Any]) -> list[Any]:
        """Undo ``shard``: gather the data ranks' results and return them in the original order."""
        shards = self.of_data_ranks(self.gather(list(own)))
        merged: list[Any] = [None] * sum(len(shard) for shard in shards)
        for rank, shard in enumerate(shards):
            merged[rank :: self.data_count] = shard
        return merged

    def of_data_ranks(self, values: Sequence[Result]) -> list[Result]:
        """Keep one of all processes' values for every data rank: that of its first process."""
        return [values[self.data_ranks.index(data_rank)] for data_rank in range(self.data_count)]

    def agreed(self, value: Result) -> Result:
        """Return the value of this data rank's first process, where the others may have got another one."""
        if self.data_count == self.count:
            return value
        decided: Result = self.of_data_ranks(self.gather(value))[self.data_rank]
        return decided


class OneProcess(Processes):
    """A run of one process, without a process group."""

    rank = 0
    count = 1
    data_ranks: Sequence[int] = (0,)

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def gather(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def sum_in_place(self, tensor: Tensor) -> None:
        """Leave the tensor as it is."""

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Return the flags."""
        return list(flags)

    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return the numbers in a list."""
        return [list(numbers)]

    def most(self, number: int) -> int:
        """Return the number."""
        return number

    def wait_for_everyone(self) -> None:
        """Return at once."""


class ProcessGroup(Processes):
    """The processes of torch's default process group, which must be initialized."""

    def __init__(self, device: torch.device, data_ranks: Sequence[int] | None = None) -> None:
        self.rank = torch.distributed.get_rank()
        self.count = torch.distributed.get_world_size()
        self.data_ranks = data_ranks or range(self.count)
        self.device = device

    def gather(self, value: Any) -> list[Any]:
        """Exchange the pickled values."""
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Send the pickled value."""
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def sum_in_place(self, tensor: Tensor) -> None:
        """Sum by all-reduce."""
        torch.distributed.all_reduce(tensor)

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Take the maximum of the flags as integers, by all-reduce."""
        raised = torch.tensor(flags, dtype=torch.int32, device=self.device)
        torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        """Exchange a tensor of float64."""
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        rows = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(rows, own)
        gathered: list[list[float]] = torch.stack(rows).tolist()
        return gathered

    def most(self, number: int) -> int:
        """Exchange a tensor of one integer."""
        largest = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def wait_for_everyone(self) -> None:
        """Wait at a barrier."""
        torch.distributed.barrier()


def check_launch(count: int) -> None:
    """Raise PlauditError unless ``count`` processes were started, by a launcher such as torchrun if more than one."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != count:
        remedy = (
            f"start it with: torchrun --nproc_per_node {count} -m plaudit …"
            if count > 1
            else f"set processes={launched} distributed=replicated"
        )
        raise PlauditError(f"processes: {count} requested, but {launched} started; {remedy}")


def start_processes(count: int, device: str, data_ranks: Sequence[int] | None = None) -> Processes:
    """Join the ``count`` processes that a launcher has started, each on a separate device unless they use the CPU.

    ``device`` is the type of a torch device, or ``auto``: the accelerator if there is one, otherwise the CPU.
    ``data_ranks`` is the data rank of every process; by default each has its own. Raises PlauditError if the device
    does not exist.
    """
    chosen = _device(device, count)
    if chosen.type == "cpu":
        # Other libraries import DeepSpeed if it is installed; without this it prints that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if count == 1:
        return OneProcess(chosen)
    if not torch.distributed.is_initialized():
        _join(chosen)
    return ProcessGroup(chosen, data_ranks)


def _device(wanted: str, count: int) -> torch.device:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if wanted == "cpu" or (wanted == "auto" and found is None):
        return torch.device("cpu")
    if found is None or wanted not in ("auto", found.type):
        raise PlauditError(f"device: {wanted} requested, but this machine has only {found or 'cpu'}; set device=auto")
    if count == 1:
        return torch.device(found.type)
    if found.type not in BACKENDS:
        raise PlauditError(
            f"processes: several processes cannot exchange tensors on {found.type}; set device=cpu or processes=1"
        )
    local, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.accelerator.device_count()
    if local >= devices:
        raise PlauditError(
            f"processes: at least {local + 1} were started on this machine, which has {devices} devices of type "
            f"{found.type}; start one process per device, or set device=cpu"
        )
    return torch.device(found.type, local)


def _join(device: torch.device) -> None:
    """Start torch's process group, and leave it at exit."""
    # The imported module captures the current process group as a default argument. If an optimizer imported it later,
    # it would keep our group, and gloo's threads, alive after shutdown.
    import_module("torch.distributed.nn.functional")
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
    torch.distributed.init_process_group(BACKENDS[device.type], timeout=WAIT_LIMIT)
    # A process that exits while gloo's threads are running is aborted with a failure code.
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
