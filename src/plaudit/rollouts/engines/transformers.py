"""Generation with any transformers causal language model: a loop over its forward method with a key/value cache.

Requests of similar length share a batch, prompts are padded on the left, identical prompts are computed once, and ended
rows are dropped from the batch. The sample for a request depends only on its seed.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import TransformersEngineConfig
from plaudit.errors import PlauditError
from plaudit.memory import HalvingSize, in_batches, responses_at_once
from plaudit.models.acceleration.context import ForwardContext, forward_context
from plaudit.models.acceleration.install import DECODING, TREES, Acceleration
from plaudit.models.acceleration.prepared_weights import prepared_weights
from plaudit.models.acceleration.tree_attention import TreeLayout
from plaudit.models.context import context_length
from plaudit.models.trunk import accepted_arguments, unwrapped
from plaudit.rollouts.engines.finishing import check_requests, end_token_ids, finished_sample
from plaudit.rollouts.engines.running_batch import RunningBatch
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.rollouts.sampling import choose_tokens
from plaudit.rollouts.texts import ResponseStream, cut_at_stop, may_hold_stop

if TYPE_CHECKING:
    from plaudit.parallel.processes import Processes

STOP_CHECK_INTERVAL = 8  # tokens between checks for stop strings; responses are cut exactly afterwards
OUT_OF_MEMORY_REMEDY = "use a smaller model, precision=bf16, shorter prompts or fewer generation.max_new_tokens"
DROP_FRACTION = 0.25  # of rows that must have ended before they are dropped, which copies the cache of the others


class CausalModel(Protocol):
    """A causal language model with its tokenizer, such as ``plaudit.models.loading.models.LoadedModel``."""

    model: Any
    tokenizer: Any
    acceleration: Acceleration

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...


class TransformersEngine:
    """Generates with a model in this process, always with its current weights."""

    def __init__(self, loaded: CausalModel) -> None:
        self._loaded = loaded
        self._model = unwrapped(loaded.model)
        if getattr(self._model, "_is_stateful", False):
            raise PlauditError(
                f"{type(self._model).__name__} has recurrent layers, which generation does not support; choose a "
                "transformer"
            )
        self._accepted = accepted_arguments(self._model.__class__)
        self._end_ids = end_token_ids(self._model, loaded.tokenizer)
        self._batch_sizes: dict[int, HalvingSize] = {}

    @classmethod
    def load(
        cls, config: TransformersEngineConfig, loaded: CausalModel, processes: "Processes"
    ) -> "TransformersEngine":
        """Return the engine of a loaded model, which this process holds."""
        return cls(loaded)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Do nothing: the engine uses the model that is trained."""

    def close(self) -> None:
        """Do nothing: the model belongs to the caller."""

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        """Return a sample for each request, in order.

        Raises:
            PlauditError: a prompt is empty or leaves no room for the response, the settings contradict each other, or
                the model's output is not finite.
        """
        check_requests(requests, settings, context_length(self._model))
        order = _longest_prompts_first(requests)
        with self._ready():
            ordered = in_batches(
                [requests[i] for i in order],
                self._batch_size(settings),
                lambda batch: self._generate_batch(batch, settings),
            )
        samples = dict(zip(order, ordered, strict=True))
        return [samples[i] for i in range(len(requests))]

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Yield the samples of ``generate`` piece by piece, as they are written.

        Raises:
            PlauditError: as ``generate`` does. RuntimeError: memory runs out. Yielded pieces cannot be taken back, so
            no smaller batch is tried.
        """
        check_requests(requests, settings, context_length(self._model))
        pieces = self._stream(requests, settings)
        # Weights are prepared in a separate context, so that they do not affect what the caller computes between two
        # pieces.
        context = copy_context()
        try:
            while (piece := context.run(next, pieces, None)) is not None:
                yield piece
        finally:
            context.run(pieces.close)

    def _stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        order, size = _longest_prompts_first(requests), self._batch_size(settings).size
        with self._ready():
            for start in range(0, len(order), size):
                numbers = order[start : start + size]
                for piece in self._stream_batch([requests[i] for i in numbers], settings):
                    yield replace(piece, index=numbers[piece.index])

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Let the model generate inside the block: without dropout, and with prepared weights."""
        was_training = self._loaded.model.training
        self._loaded.model.eval()
        try:
            with prepared_weights(self._model, self._loaded.device):
                yield
        finally:
            self._loaded.model.train(was_training)

    def _batch_size(self, settings: GenerationConfig) -> HalvingSize:
        new = responses_at_once(settings.batch_size, "generation", OUT_OF_MEMORY_REMEDY)
        return self._batch_sizes.setdefault(settings.batch_size, new)

    @torch.inference_mode()
    def _generate_batch(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        batch = self._batch(requests, settings)
        for _ in self._steps(batch, settings):
            pass
        return [
            self._sample(request, *result, settings.stop)
            for request, result in zip(requests, batch.results(), strict=True)
        ]

    @torch.inference_mode()
    def _stream_batch(self, requests: Sequence[Request], settings: GenerationConfig) -> Iterator[Piece]:
        """Yield the pieces of a batch; their ``index`` is the request's place in it."""
        batch = self._batch(requests, settings)
        running = {
            i: ResponseStream(self._loaded.tokenizer, request.prompt_ids, settings.stop)
            for i, request in enumerate(requests)
        }
        for _ in self._steps(batch, settings):
            ended, results = batch.ended(), batch.results()
            for index, response in list(running.items()):
                if ended[index]:
                    sample = self._sample(requests[index], *results[index], settings.stop)
                    yield Piece(index, *response.rest(sample.response_ids, sample.response_text), sample)
                    del running[index]
                elif (grown := response.grow(results[index][0])) is not None:
                    yield Piece(index, *grown)

    def _batch(self, requests: Sequence[Request], settings: GenerationConfig) -> RunningBatch:
        return RunningBatch(
            requests,
            settings,
            self._loaded.device,
            takes_dense_masks=self._loaded.acceleration.takes_dense_masks,
            # The model may have been loaded on another device than this.
            compiled_decoding=self._loaded.device.type == "cpu" and self._loaded.acceleration.uses(DECODING),
        )

    @torch.inference_mode()
    def _steps(self, batch: RunningBatch, settings: GenerationConfig) -> Iterator[None]:
        """Generate the batch; yield after every token, before rows that have ended are dropped."""
        device = self._loaded.device
        end_ids = torch.tensor(sorted(self._end_ids), dtype=torch.long, device=device)
        logits = batch.adopt([self._prefill(inputs) for inputs in batch.prefill_inputs()])
        interval = check_interval(device)
        for step in range(batch.longest):
            forbidden = end_ids if step < settings.min_new_tokens else None
            choice = choose_tokens(logits, batch.uniforms[:, step], settings, forbidden)
            batch.append(choice, is_end=torch.isin(choice.tokens, end_ids))
            if settings.stop and (step + 1) % STOP_CHECK_INTERVAL == 0:
                self._stop_rows(batch, settings.stop)
            yield
            if (step + 1) % interval == 0 and batch.drop_finished(DROP_FRACTION) == 0:
                break
            if step + 1 < batch.longest:
                logits = self._forward_step(batch)

    def _prefill(self, inputs: dict[str, Any]) -> Any:
        rows, length = inputs["input_ids"].shape
        last = torch.arange(1, rows + 1, device=self._loaded.device) * length - 1
        trees = inputs["attention_mask"] if isinstance(inputs["attention_mask"], TreeLayout) else None
        if trees is not None:
            by_trees = self._loaded.acceleration.uses(TREES)
            inputs = inputs | {"attention_mask": trees.unread_mask() if by_trees else trees.mask.dense()}
        with forward_context(ForwardContext(trees, read=last)):
            return self._forward(**inputs)

    def _forward_step(self, batch: RunningBatch) -> Tensor:
        """Return the logits [rows, vocabulary] after the newest tokens."""
        with forward_context(ForwardContext()):
            logits: Tensor = self._forward(**batch.step_inputs()).logits[:, -1]
        return logits

    def _forward(self, **inputs: Any) -> Any:
        optional = {"position_ids": inputs.pop("position_ids"), "logits_to_keep": 1}
        accepted = {name: value for name, value in optional.items() if name in self._accepted}
        return self._loaded.model(**inputs, **accepted, use_cache=True)

    def _stop_rows(self, batch: RunningBatch, stops: Sequence[str]) -> None:
        tokenizer = self._loaded.tokenizer
        for row, request, response in batch.unfinished():
            if may_hold_stop(tokenizer, response, stops, STOP_CHECK_INTERVAL):
                batch.finished[row] = cut_at_stop(tokenizer, request.prompt_ids, response, stops) is not None

    def _sample(
        self,
        request: Request,
        response: list[int],
        log_probabilities: list[float],
        stops: Sequence[str],
    ) -> Sample:
        return finished_sample(
            request,
            response,
            log_probabilities,
            stops=stops,
            end_ids=self._end_ids,
            tokenizer=self._loaded.tokenizer,
        )


def _longest_prompts_first(requests: Sequence[Request]) -> list[int]:
    """Return the indices of the requests in the order in which they are answered; equal prompts are adjacent."""
    return sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt_ids), requests[i].prompt_ids))


def check_interval(device: torch.device) -> int:
    """Return after how many tokens to check for ended rows; on an accelerator, every check waits for the device."""
    return 1 if device.type == "cpu" else STOP_CHECK_INTERVAL
