"""An engine together with the model whose weights it generates with."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import EngineConfig
from plaudit.models.saving import SavedWeights
from plaudit.rollouts.engines.base import Engine, ReleasesMemory, generated
from plaudit.rollouts.engines.build import build_engine, engine_class_of
from plaudit.rollouts.samples import Piece, Request, Sample

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes

MakeEngine = Callable[["LoadedModel"], Engine]


class ModelEngine:
    """Generates with the weights that a model had at the last ``update``.

    ``computes_elsewhere`` is that of the engine's class. The engine starts at the first ``update`` and runs until
    ``close``. All processes of a run call ``update`` and ``release`` in the same order.
    """

    def __init__(self, make: MakeEngine, loaded: "LoadedModel", computes_elsewhere: bool = False) -> None:
        self._make, self._loaded, self.computes_elsewhere = make, loaded, computes_elsewhere
        self._engine: Engine | None = None
        self._is_current = False

    def update(self, version: int) -> None:
        """Generate with the model's current weights; ``version`` is the number of finished training iterations."""
        if self._engine is None:
            self._engine = self._make(self._loaded)
        elif not self._is_current and isinstance(self._engine, ReleasesMemory):
            self._engine.resume()
        self._engine.update_weights(version, SavedWeights(self._loaded.model))
        self._is_current = True

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        """Return a sample for each request. Raises PlauditError if the engine returns anything else."""
        return generated(self._current(), requests, settings)

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Yield the same samples piece by piece, as they are written."""
        return self._current().stream(requests, settings)

    def release(self) -> None:
        """Let the engine return its memory, if it can. The next call is ``update`` or ``close``."""
        if isinstance(self._engine, ReleasesMemory) and self._is_current:
            self._engine.release()
        self._is_current = False

    def close(self) -> None:
        """Close the engine if it has started."""
        engine, self._engine = self._engine, None
        self._is_current = False
        if engine is not None:
            engine.close()

    def _current(self) -> Engine:
        if self._engine is None or not self._is_current:
            raise RuntimeError("the engine has no current weights: call update before generate or stream")
        return self._engine


def configured_engine(config: EngineConfig, loaded: "LoadedModel", processes: "Processes") -> ModelEngine:
    """Return the engine that ``config`` names, before it starts; the caller closes it."""
    make = partial(build_engine, config, processes=processes)
    return ModelEngine(make, loaded, getattr(engine_class_of(config), "computes_elsewhere", False))
