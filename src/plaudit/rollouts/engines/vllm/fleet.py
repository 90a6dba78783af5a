"""The servers of an engine: started here, or already running."""

import platform
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError, one_line
from plaudit.models.trunk import unwrapped
from plaudit.rollouts.engines.vllm.client import Client, post_to_all
from plaudit.rollouts.engines.vllm.plugin.plaudit_vllm.group import address_towards
from plaudit.rollouts.engines.vllm.server import Server, write_model_configuration
from plaudit.rollouts.engines.vllm.weights import INIT, BroadcastChannel, Channel, FileChannel, transfer_folder

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Sizes of an attention head that vLLM's CPU build computes. With another one, it starts and dies at a request."""


@dataclass(frozen=True)
class Fleet:
    """Where the servers are, for all processes.

    ``servers`` are pairs of a URL and where to look after an error. ``run`` begins the names of the versions of
    weights, so that those of another run are never taken for them. ``folder`` is that of servers started here.
    """

    servers: tuple[tuple[str, str], ...]
    run: str
    folder: Path | None = None

    def clients(self, timeout: float) -> list[Client]:
        """Return a client for each server."""
        return [Client(url, timeout, remedy) for url, remedy in self.servers]


def find_servers(
    config: VllmEngineConfig, loaded: "LoadedModel", device: torch.device, resources: ExitStack
) -> tuple[Fleet, Channel]:
    """Start the servers or look for those that run, and open the channel for weights, in the main process.

    ``device`` is that of training; whole weights may be on another one. ``resources`` ends what was started.
    """
    run, transfer = uuid.uuid4().hex[:8], transfer_folder(_size(loaded) if config.weights == "file" else 0)
    resources.callback(shutil.rmtree, transfer, ignore_errors=True)
    if config.urls:
        remedy = "check engine.url and the server's log"
        fleet = Fleet(tuple((url, remedy) for url in config.urls), run)
    else:
        fleet = _start(config, loaded, device, run, transfer, resources)
    clients = fleet.clients(config.timeout)
    for client in clients:
        resources.callback(client.close)
    if config.sleep:
        _check_sleep(clients)
        post_to_all(clients, "/wake_up")  # an earlier run leaves servers asleep
    return fleet, _channel(config, device, clients, transfer)


def check_machines(processes: "Processes", config: VllmEngineConfig) -> None:
    """Raise PlauditError, in every process, if they are on several machines and a server answers on its own alone."""
    machines = sorted(set(processes.gather(platform.node())))
    if len(machines) == 1:
        return
    if any(processes.gather(not config.urls or any(map(_answers_here_alone, config.urls)))):
        raise PlauditError(
            f"engine: vllm needs all processes on one machine, not on {', '.join(machines)}; start them on one, name "
            "servers in engine.url that all of them reach, or use engine=transformers"
        )


def is_here(url: str) -> bool:
    """Whether a server is on this machine."""
    there = _address(url, socket.gethostbyname)
    return _is_loopback(there) or there == _address(url, address_towards)


def _address(url: str, find: Callable[[str], str]) -> str:
    host = Client(url, 1, "").host
    try:
        return find(host)
    except OSError as error:
        raise PlauditError(f"engine.url: {url} cannot be reached ({one_line(error)}); check the name") from error


def _answers_here_alone(url: str) -> bool:
    return _is_loopback(_address(url, socket.gethostbyname))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")


def dtype_name(config: VllmEngineConfig, loaded: "LoadedModel") -> str:
    """Return the type of the servers' weights."""
    return config.dtype or str(unwrapped(loaded.model).dtype).removeprefix("torch.")


def _start(
    config: VllmEngineConfig,
    loaded: "LoadedModel",
    device: torch.device,
    run: str,
    transfer: Path,
    resources: ExitStack,
) -> Fleet:
    _check_head_size(loaded, device)
    if config.sleep and device.type == "cpu":
        raise PlauditError("engine.sleep: vLLM has no sleep mode on a CPU; remove this key")
    folder = Path(tempfile.mkdtemp(prefix="plaudit-vllm-"))
    write_model_configuration(unwrapped(loaded.model), folder)
    servers = []
    for number in range(config.servers):
        servers.append(Server(config, dtype_name(config, loaded), folder, transfer, number))
        resources.callback(servers[-1].close)
    fleet = Fleet(tuple((server.url, f"see {server.log}") for server in servers), run, folder)
    for server, client in zip(servers, fleet.clients(config.timeout), strict=True):
        server.wait_until_ready(client, config.start_timeout)
        client.close()
    return fleet


def _channel(config: VllmEngineConfig, device: torch.device, clients: Sequence[Client], transfer: Path) -> Channel:
    if config.weights == "broadcast":
        return BroadcastChannel.open(clients, device, config.timeout)
    if elsewhere := [url for url in config.urls if not is_here(url)]:
        raise PlauditError(f"engine.url: {elsewhere[0]} is not on this machine; set engine.weights=broadcast")
    post_to_all(clients, INIT, {"init_info": {}})
    return FileChannel(transfer)


def _check_sleep(clients: Sequence[Client]) -> None:
    """Raise PlauditError unless all servers can sleep. Others would ignore the request."""
    path = "/server_info?config_format=json"
    for client in clients:
        if not client.get(path)["vllm_config"]["model_config"]["enable_sleep_mode"]:
            raise client.error(path, "says that it was started without --enable-sleep-mode, which engine.sleep needs")


def _size(loaded: "LoadedModel") -> int:
    return sum(weight.numel() * weight.element_size() for weight in loaded.model.parameters())


def _check_head_size(loaded: "LoadedModel", device: torch.device) -> None:
    config = unwrapped(loaded.model).config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if device.type == "cpu" and size not in CPU_HEAD_SIZES:
        raise PlauditError(
            f"vLLM: on a CPU it supports no attention heads of size {size}, only {', '.join(map(str, CPU_HEAD_SIZES))};"
            " use engine=transformers"
        )
