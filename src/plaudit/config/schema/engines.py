"""Generation engines: a section for each kind, and the registry of kinds."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from plaudit.config.schema.base import NamedBy, Section
from plaudit.config.schema.kinds import Kinds
from plaudit.registry import Registry


class EngineConfig(Section):
    """An engine that generates responses. A plain string means ``kind``."""

    engine: ClassVar[str]
    """``module:class`` of the engine; the class has ``load(config, loaded)``, see ``plaudit.rollouts.engines.base``."""

    kind: str = Field(description="kind of engine")


class TransformersEngineConfig(EngineConfig):
    """Generation with the model itself, in the same process and with its current weights."""

    engine: ClassVar[str] = "plaudit.rollouts.engines.transformers:TransformersEngine"

    kind: Literal["transformers"] = Field("transformers", description="the model itself, in the same process")


ENGINES: Registry[type[EngineConfig]] = Registry("engine", {"transformers": TransformersEngineConfig})
"""Every kind of engine. A plugin registers its kinds here, see ``docs/extending.md``."""

EngineReference = Annotated[EngineConfig, Kinds(EngineConfig, "kind", ENGINES, "transformers"), NamedBy("kind")]
