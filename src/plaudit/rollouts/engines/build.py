"""Builds the configured engine."""

from importlib import import_module
from typing import Any

from plaudit.config.schema.engines import EngineConfig
from plaudit.rollouts.engines.base import Engine


def build_engine(config: EngineConfig, loaded: Any) -> Engine:
    """Return the engine that ``config`` names, for a loaded model."""
    module, _, name = config.engine.partition(":")
    engine: Engine = getattr(import_module(module), name).load(config, loaded)
    return engine
