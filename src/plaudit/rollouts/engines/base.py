"""The interface of generation engines."""

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Piece, Request, Sample

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes


class Generates(Protocol):
    """Generates one sample per request, in the order of the requests."""

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        """Return a sample for each request."""
        ...

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Yield the same samples piece by piece, as they are written.

        Pieces of different requests may alternate. Text is yielded once later tokens cannot change it: no part of a
        character, and nothing that may belong to a stop string. Close the generator to stop early. The weights must
        not change while it is open. An engine that cannot stream yields ``in_one_piece(self.generate(...))``.
        """
        ...

    def close(self) -> None:
        """Release processes and memory. The engine is not used afterwards."""
        ...


class Engine(Generates, Protocol):
    """Generates with the weights that it was given last.

    The rest of the code uses an engine through ``ModelEngine``, which calls ``update_weights`` before the first
    ``generate``. All processes of a run make the same calls in the same order, except ``generate`` and ``stream``,
    which a process may leave out, and ``close`` after an error: these must not wait for other processes.

    While it generates, the model has its whole weights in this process. The class of an engine that needs them only in
    ``update_weights``, and there only in the main process, sets ``computes_elsewhere = True``, so that they may stay in
    shards.
    """

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Generate with these weights from now on.

        Args:
            version: number of finished training iterations. The weights of one version are always the same, so an
                engine that already has this version need not read them again.
            tensors: names and values of the weights as a plain transformers model saves them, with merged adapters (see
                ``saved_weights``). They may be iterated several times. Each tensor is computed when an iteration
                reaches it, so an engine that shares the model's memory saves that cost by not iterating. Every process
                has all of them; with ``computes_elsewhere`` only the main process. Read the tensors during the call
                and copy those that you keep, because training changes their memory afterwards.
        """
        ...


@runtime_checkable
class ReleasesMemory(Protocol):
    """An engine that can return its memory while rewards are computed and models are trained. Others keep it."""

    def release(self) -> None:
        """Return as much memory as possible, including that of the weights."""
        ...

    def resume(self) -> None:
        """Get the memory back. ``update_weights`` follows before the next ``generate``."""
        ...


class EngineClass(Protocol):
    """The class of an engine, which its configuration section names."""

    def load(self, config: Any, loaded: "LoadedModel", processes: "Processes") -> Engine:
        """Return the engine for a model, in every process.

        Args:
            config: the engine's section.
            loaded: the model, for its configuration (``loaded.model.config``), tokenizer and context length. Weights
                come from ``update_weights``; only an engine that generates with this very model keeps it.
            processes: the processes that share the engine. An engine outside of them starts once, in the main process
                (``is_main``), and the others learn its address by ``gather``.

        Raises:
            PlauditError: the engine cannot start.
        """
        ...


def generated(engine: Generates, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
    """Return the engine's samples. Raises PlauditError unless there is one per request."""
    samples = engine.generate(requests, settings)
    if not isinstance(samples, list) or not all(isinstance(sample, Sample) for sample in samples):
        raise PlauditError(f"{type(engine).__name__}.generate must return a list of Sample, not {samples!r:.80}")
    if len(samples) != len(requests):
        raise PlauditError(
            f"{type(engine).__name__}.generate returned {len(samples)} samples for {len(requests)} requests: return "
            "one each, in their order"
        )
    return samples


def in_one_piece(samples: Iterable[Sample]) -> Generator[Piece, None, None]:
    """Yield each finished sample as a single piece."""
    for index, sample in enumerate(samples):
        yield Piece(index, sample.response_ids, sample.response_text, sample)
