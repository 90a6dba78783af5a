"""A server process of one's own: started with the model's configuration alone, and killed with this process."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.engines.vllm.client import Client

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HERE = Path(__file__).parent
PAUSE = 0.2  # seconds between two looks at a server that starts
SHOWN = 300  # characters of the log in an error message
OF_A_LAUNCHER = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_",
    "TORCHELASTIC_",
)
"""Beginnings of variables that a launcher sets for the training processes; the server would join their group."""


class Server:
    """A running server. ``close`` must be called; the server also ends when this process dies."""

    def __init__(self, config: VllmEngineConfig, dtype: str, folder: Path, transfer: Path, number: int = 0) -> None:
        """Start the server with this number.

        ``folder`` contains the model's configuration and gets the log. ``transfer`` is deleted if this process dies.
        """
        assert config.python is not None
        self.log = folder / f"server-{number}.log"
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [config.python, *server_arguments(folder, port, dtype, config)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "watchdog.py"), str(transfer), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=server_environment(os.environ, config.environment_of(number)) | {"PYTHONPATH": plugin_path(folder)},
                start_new_session=True,
            )

    def wait_until_ready(self, client: Client, seconds: float) -> None:
        """Return when the server can generate.

        Raises PlauditError, with the last error in the log, if it ends or is not ready in time.
        """
        end = time.monotonic() + seconds
        while not client.is_healthy():
            if self._process.poll() is not None:
                raise PlauditError(
                    f"vLLM: the server ended before it was ready: {last_error(self.log)}; see {self.log}"
                )
            if time.monotonic() > end:
                raise PlauditError(
                    f"vLLM: the server was not ready within {seconds:g} seconds; raise engine.start_timeout, or see "
                    f"{self.log}"
                )
            time.sleep(PAUSE)

    def close(self) -> None:
        """End the server and all its processes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_model_configuration(model: "PreTrainedModel", folder: Path) -> None:
    """Write the configuration of a model, from which a server builds it without its weights."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)


def server_arguments(folder: Path, port: int, dtype: str, config: VllmEngineConfig) -> list[str]:
    """Return the arguments of the server's Python.

    The server starts with random weights (``dummy``), so a weight that is never sent makes its first log-probabilities
    wrong, which the check at the start finds.
    """
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--load-format", "dummy", "--dtype", dtype, "--generation-config", "vllm"),
        *("--host", "127.0.0.1", "--port", str(port), "--tokens-only", "--enable-scale-out"),
        *("--logprobs-mode", "processed_logprobs"),
        *("--weight-transfer-config", json.dumps({"backend": "plaudit"})),
        *("--kv-cache-memory-bytes", str(config.cache_mib * 2**20)),
        *(["--enable-sleep-mode"] if config.sleep else []),
        *config.arguments,
    ]


def server_environment(own: Mapping[str, str], further: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: this process's, without a launcher's variables."""
    kept = {name: value for name, value in own.items() if not name.startswith(OF_A_LAUNCHER)}
    return kept | {
        "VLLM_SERVER_DEV_MODE": "1",  # the requests that update weights
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        **further,
    }


def plugin_path(folder: Path) -> str:
    """Write the entry point of the plug-in into ``folder``; return the PYTHONPATH with which vLLM finds the plug-in."""
    metadata = folder / "plaudit_vllm-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plaudit-vllm\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vllm.general_plugins]\nplaudit = plaudit_vllm:register\n")
    return os.pathsep.join([str(HERE / "plugin"), str(folder)])


def last_error(log: Path) -> str:
    """Return the last line of a log that names an error, or its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["its log is empty"])[-1][-SHOWN:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
