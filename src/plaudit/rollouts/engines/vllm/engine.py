"""Generation by a vLLM server, which this process starts or which runs already."""

import platform
import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.models.trunk import unwrapped
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.engines.finishing import check_requests, end_token_ids, finished_sample
from plaudit.rollouts.engines.vllm.client import Client
from plaudit.rollouts.engines.vllm.probe import mean_difference
from plaudit.rollouts.engines.vllm.responses import PATH, generate
from plaudit.rollouts.engines.vllm.server import Server, write_model_configuration
from plaudit.rollouts.engines.vllm.weights import send_weights, transfer_folder
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.rollouts.sampling import draw_limits

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes


@dataclass(frozen=True)
class Address:
    """Where a server is, for all processes.

    ``remedy`` says where to look after an error. ``run`` begins the names of the versions of weights, so that those of
    another run are never taken for them. ``transfer`` is the folder for weights, ``folder`` that of a server that was
    started here.
    """

    url: str
    remedy: str
    run: str
    transfer: Path
    folder: Path | None


EXACT_TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 0.05
"""Mean differences of log-probabilities: where both sides compute in float32, and where one rounds to 16 bits."""

FAILED = "failed"
"""A file beside the log: some process got an error, so the log stays."""

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Sizes of an attention head that vLLM's CPU build computes. With another one, it starts and dies at a request."""


class VllmEngine:
    """Generates with a server that all processes share. The main process starts it, sends it weights, and ends it."""

    computes_elsewhere = True

    def __init__(
        self, config: VllmEngineConfig, loaded: "LoadedModel", processes: "Processes", address: "Address"
    ) -> None:
        self._config, self._loaded, self._processes, self._address = config, loaded, processes, address
        self._client = Client(address.url, config.timeout, address.remedy)
        self._dtype = getattr(torch, _dtype(config, loaded))
        self._end_ids = end_token_ids(unwrapped(loaded.model), loaded.tokenizer)
        self._version: str | None = None
        self._resources = ExitStack()
        self._resources.callback(self._client.close)

    @classmethod
    def load(cls, config: VllmEngineConfig, loaded: "LoadedModel", processes: "Processes") -> "VllmEngine":
        """Start the server or, if it already runs, check that it answers.

        Raises PlauditError if the processes run on several machines, or if the server does not start or does not
        support the model.
        """
        check_machines(processes)
        with ExitStack() as resources:
            address = _start(config, loaded, resources) if processes.is_main else None
            engine = cls(config, loaded, processes, processes.gather(address)[0])
            engine._resources.push(resources.pop_all())
        return engine

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Send the weights, unless the server has this version. The first ones are checked with a few samples.

        Raises PlauditError if a step fails, or if the server computes other probabilities than the model.
        """
        name = f"{self._address.run}-{version}"
        if name == self._version:
            return
        self._processes.wait_for_everyone()  # another process may still generate with the old weights
        is_first, self._version = self._version is None, name
        if self._processes.is_main:
            with self._log_of_errors():
                send_weights(self._client, self._address.transfer, name, tensors, self._dtype)
                if is_first:
                    self._check_agreement()
        self._processes.wait_for_everyone()

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        """Return a sample for each request. Stop strings are cut here: the server generates up to the end token.

        Raises PlauditError if a prompt does not fit, or if the server fails or answers with other weights.
        """
        check_requests(requests, settings, self._loaded.context_length)
        limits = draw_limits(requests, settings)
        with self._log_of_errors(), ThreadPoolExecutor(settings.batch_size) as pool:
            samples = [pool.submit(self._sample, *each, settings) for each in zip(requests, limits, strict=True)]
            try:
                return [sample.result() for sample in samples]
            finally:
                for sample in samples:  # after an error, ask for nothing more
                    sample.cancel()

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Yield each sample whole."""
        return in_one_piece(self.generate(requests, settings))

    def close(self) -> None:
        """End a server that was started here. Its log stays if any process got an error."""
        self._resources.close()
        folder = self._address.folder
        if folder is not None and self._processes.is_main and not (folder / FAILED).exists():
            shutil.rmtree(folder)

    @contextmanager
    def _log_of_errors(self) -> Iterator[None]:
        """Keep the server's log after an error in the block."""
        try:
            yield
        except Exception:
            if self._address.folder is not None:
                (self._address.folder / FAILED).touch()
            raise

    def _sample(self, request: Request, limit: int, settings: GenerationConfig) -> Sample:
        assert self._version is not None
        ids, log_probabilities = generate(self._client, request, limit, settings, self._end_ids, self._version)
        return finished_sample(
            request,
            ids,
            log_probabilities,
            [0.0] * len(ids),
            stops=settings.stop,
            end_ids=self._end_ids,
            tokenizer=self._loaded.tokenizer,
        )

    def _check_agreement(self) -> None:
        exact = self._dtype == unwrapped(self._loaded.model).dtype == torch.float32
        tolerance = self._config.tolerance or (EXACT_TOLERANCE if exact else ROUNDED_TOLERANCE)
        difference = mean_difference(self, self._loaded)
        if not difference <= tolerance:
            raise self._client.error(
                PATH,
                f"gives log-probabilities that differ from the model's by {difference:.2g} on average, which is more "
                f"than engine.tolerance={tolerance:g}; set engine.dtype=float32, or use engine=transformers",
            )


def check_machines(processes: "Processes") -> None:
    """Raise PlauditError, in every process, if they run on several machines: a server answers on its own alone."""
    machines = sorted(set(processes.gather(platform.node())))
    if len(machines) > 1:
        raise PlauditError(
            f"engine: vllm needs all processes on one machine, not on {', '.join(machines)}; start them on one, or use "
            "engine=transformers"
        )


def _start(config: VllmEngineConfig, loaded: "LoadedModel", resources: ExitStack) -> Address:
    """Start the server, or look for the one that runs; ``resources`` ends what was started."""
    run, transfer = uuid.uuid4().hex[:8], transfer_folder(_size(loaded))
    resources.callback(shutil.rmtree, transfer, ignore_errors=True)
    if config.url is not None:
        remedy = "check engine.url and the server's log"
        with closing(Client(config.url, config.timeout, remedy)) as client:
            client.post("/init_weight_transfer_engine", {"init_info": {}})
        return Address(config.url, remedy, run, transfer, None)
    _check_head_size(loaded)
    folder = Path(tempfile.mkdtemp(prefix="plaudit-vllm-"))
    write_model_configuration(unwrapped(loaded.model), folder)
    server = Server(config, _dtype(config, loaded), folder, transfer)
    resources.callback(server.close)
    remedy = f"see {server.log}"
    with closing(Client(server.url, config.timeout, remedy)) as client:
        server.wait_until_ready(client, config.start_timeout)
        client.post("/init_weight_transfer_engine", {"init_info": {}})
    return Address(server.url, remedy, run, transfer, folder)


def _dtype(config: VllmEngineConfig, loaded: "LoadedModel") -> str:
    return config.dtype or str(unwrapped(loaded.model).dtype).removeprefix("torch.")


def _size(loaded: "LoadedModel") -> int:
    return sum(weight.numel() * weight.element_size() for weight in loaded.model.parameters())


def _check_head_size(loaded: "LoadedModel") -> None:
    config = unwrapped(loaded.model).config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if loaded.device.type == "cpu" and size not in CPU_HEAD_SIZES:
        raise PlauditError(
            f"vLLM: on a CPU it supports no attention heads of size {size}, only {', '.join(map(str, CPU_HEAD_SIZES))};"
            " use engine=transformers"
        )
