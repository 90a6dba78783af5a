"""The interface of generation engines."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Piece, Request, Sample


class Engine(Protocol):
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

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Generate with these weights from now on.

        Args:
            version: number of finished training iterations.
            tensors: names and values of the weights as a plain transformers model saves them, with merged adapters (see
                ``saved_weights``). Each tensor is computed when the iteration reaches it, so an engine that shares the
                model's memory saves that cost by not iterating. Read the tensors during the call and copy those that
                you keep, because training changes their memory afterwards.
        """
        ...

    def close(self) -> None:
        """Release processes and memory. The engine is not used afterwards."""
        ...


def generated(engine: Engine, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
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


class EngineClass(Protocol):
    """The class of an engine, which its configuration section names."""

    def load(self, config: Any, loaded: Any) -> Engine:
        """Return the engine for a section and a loaded model (``plaudit.models.loading.models.LoadedModel``)."""
        ...
