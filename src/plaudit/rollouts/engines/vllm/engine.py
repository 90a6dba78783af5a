"""Generation by vLLM servers, which this process starts or which run already."""

import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.models.trunk import unwrapped
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.engines.finishing import check_requests, end_token_ids, finished_sample
from plaudit.rollouts.engines.vllm.client import Client, post_to_all
from plaudit.rollouts.engines.vllm.fleet import Fleet, check_machines, dtype_name, find_servers
from plaudit.rollouts.engines.vllm.probe import mean_difference
from plaudit.rollouts.engines.vllm.responses import PATH, generate
from plaudit.rollouts.engines.vllm.weights import Channel, send_weights
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.rollouts.sampling import draw_limits

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes

EXACT_TOLERANCE = 1e-3
ROUNDED_TOLERANCE = 0.05
"""Mean differences of log-probabilities: where both sides compute in float32, and where one rounds to 16 bits."""

FAILED = "failed"
"""A file beside the logs: some process got an error, so the logs stay."""


class VllmEngine:
    """Generates with servers that all processes share. The main process starts them, sends them weights, ends them."""

    computes_elsewhere = True

    def __init__(
        self,
        config: VllmEngineConfig,
        loaded: "LoadedModel",
        processes: "Processes",
        fleet: Fleet,
        channel: Channel | None,
        resources: ExitStack,
    ) -> None:
        self._config, self._loaded, self._processes, self._fleet = config, loaded, processes, fleet
        self._channel, self._resources = channel, resources
        self._clients = fleet.clients(config.timeout)
        for client in self._clients:
            resources.callback(client.close)
        self._dtype = getattr(torch, dtype_name(config, loaded))
        self._end_ids = end_token_ids(unwrapped(loaded.model), loaded.tokenizer)
        self._version: str | None = None
        self._was_checked = False

    @classmethod
    def load(cls, config: VllmEngineConfig, loaded: "LoadedModel", processes: "Processes") -> "VllmEngine":
        """Start the servers or, if they already run, check that they answer.

        Raises PlauditError if some process cannot reach all servers from its machine, or if a server does not start or
        does not support the model.
        """
        check_machines(processes, config)
        with ExitStack() as resources:
            found = find_servers(config, loaded, processes.device, resources) if processes.is_main else None
            fleet = processes.gather(found and found[0])[0]
            return cls(config, loaded, processes, fleet, found and found[1], resources.pop_all())

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Send the weights, unless the servers have this version. The first ones are checked with a few samples.

        Raises PlauditError if a step fails, or if a server computes other probabilities than the model.
        """
        name = f"{self._fleet.run}-{version}"
        if name == self._version:
            return
        self._processes.wait_for_everyone()  # another process may still generate with the old weights
        self._version = name
        if self._channel is not None:
            with self._log_of_errors():
                send_weights(self._clients, self._channel, name, tensors, self._dtype)
                if not self._was_checked:
                    self._check_agreement()
        self._was_checked = True
        self._processes.wait_for_everyone()

    def release(self) -> None:
        """Let the servers sleep, if configured; they forget their weights."""
        if not self._config.sleep:
            return
        self._processes.wait_for_everyone()  # another process may still generate
        self._version = None
        if self._channel is not None:
            with self._log_of_errors():
                post_to_all(self._clients, "/sleep?level=2&mode=wait")

    def resume(self) -> None:
        """Wake the servers; ``update_weights`` must follow."""
        if self._config.sleep and self._channel is not None:
            with self._log_of_errors():
                post_to_all(self._clients, "/wake_up")

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        """Return a sample for each request. Stop strings are cut here: a server generates up to the end token.

        Raises PlauditError if a prompt does not fit, or if a server fails or answers with other weights.
        """
        return self._generate(self._clients, requests, settings)

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Yield each sample whole."""
        return in_one_piece(self.generate(requests, settings))

    def close(self) -> None:
        """End servers that were started here. Their logs stay if any process got an error."""
        self._resources.close()
        folder = self._fleet.folder
        if folder is not None and self._processes.is_main and not (folder / FAILED).exists():
            shutil.rmtree(folder)

    @contextmanager
    def _log_of_errors(self) -> Iterator[None]:
        """Keep the servers' logs after an error in the block."""
        try:
            yield
        except Exception:
            if self._fleet.folder is not None:
                (self._fleet.folder / FAILED).touch()
            raise

    def _generate(
        self, clients: Sequence[Client], requests: Sequence[Request], settings: GenerationConfig
    ) -> list[Sample]:
        check_requests(requests, settings, self._loaded.context_length)
        limits = draw_limits(requests, settings)
        slots: SimpleQueue[Client] = SimpleQueue()  # as many as threads: a server takes a request when one is free
        for client in list(clients) * settings.batch_size:
            slots.put(client)
        with self._log_of_errors(), ThreadPoolExecutor(slots.qsize()) as pool:
            each = zip(requests, limits, strict=True)
            samples = [pool.submit(self._sample_in_slot, slots, *one, settings) for one in each]
            try:
                return [sample.result() for sample in samples]
            finally:
                for sample in samples:  # after an error, ask for nothing more
                    sample.cancel()

    def _sample_in_slot(
        self, slots: SimpleQueue[Client], request: Request, limit: int, settings: GenerationConfig
    ) -> Sample:
        client = slots.get()
        try:
            return self._sample(client, request, limit, settings)
        finally:
            slots.put(client)

    def _sample(self, client: Client, request: Request, limit: int, settings: GenerationConfig) -> Sample:
        assert self._version is not None
        ids, log_probabilities = generate(client, request, limit, settings, self._end_ids, self._version)
        return finished_sample(
            request,
            ids,
            log_probabilities,
            stops=settings.stop,
            end_ids=self._end_ids,
            tokenizer=self._loaded.tokenizer,
        )

    def _check_agreement(self) -> None:
        exact = self._dtype == unwrapped(self._loaded.model).dtype == torch.float32
        tolerance = self._config.tolerance or (EXACT_TOLERANCE if exact else ROUNDED_TOLERANCE)
        for client in self._clients:
            difference = mean_difference(partial(self._generate, [client]), self._loaded)
            if not difference <= tolerance:
                raise client.error(
                    PATH,
                    f"gives log-probabilities that differ from the model's by {difference:.2g} on average, which is "
                    f"more than engine.tolerance={tolerance:g}; set engine.dtype=float32, or use engine=transformers",
                )
