"""Builds the configured engine."""

from typing import TYPE_CHECKING

from plaudit.config.schema.engines import EngineConfig
from plaudit.plugins import check_methods, import_object
from plaudit.rollouts.engines.base import Engine, EngineClass

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.parallel.processes import Processes


def build_engine(config: EngineConfig, loaded: "LoadedModel", processes: "Processes") -> Engine:
    """Return the engine that ``config`` names, for a loaded model; all ``processes`` call this.

    Raises PlauditError if it cannot be imported or lacks a method of ``Engine``.
    """
    engine: Engine = engine_class_of(config).load(config, loaded, processes)
    check_methods(engine, Engine, f"engine {config.kind}")
    return engine


def engine_class_of(config: EngineConfig) -> EngineClass:
    """Return the class that a section names. Raises PlauditError if it cannot be imported or lacks ``load``."""
    place = f"engine {config.kind}"
    engine_class: EngineClass = import_object(config.engine, place)
    check_methods(engine_class, EngineClass, place)
    return engine_class
