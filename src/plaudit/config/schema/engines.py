"""Generation engines: a section for each kind, and the registry of kinds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from plaudit.config.schema.base import MAY_CHANGE, NAMES_PROGRAM, NamedBy, Place, Positive, Section
from plaudit.config.schema.kinds import Kinds
from plaudit.registry import Registry

if TYPE_CHECKING:
    from plaudit.config.schema.generation import GenerationConfig


class EngineConfig(Section):
    """An engine that generates responses. A plain string means ``kind``."""

    engine: ClassVar[str]
    """``module:class`` of the engine, which has the methods in ``plaudit.rollouts.engines.base``."""

    kind: str = Field(description="kind of engine")

    def unsupported(self, generation: "GenerationConfig") -> Mapping[str, str]:
        """Return the generation settings that the engine does not support: key -> reason and what to set instead."""
        return {}


class TransformersEngineConfig(EngineConfig):
    """Generation with the model itself, in the same process and with its current weights."""

    engine: ClassVar[str] = "plaudit.rollouts.engines.transformers:TransformersEngine"

    kind: Literal["transformers"] = Field("transformers", description="the model itself, in the same process")


class VllmEngineConfig(EngineConfig):
    """A vLLM server, which gets the weights after every iteration. See docs/engines.md."""

    engine: ClassVar[str] = "plaudit.rollouts.engines.vllm.engine:VllmEngine"

    kind: Literal["vllm"] = Field("vllm", description="a vLLM server")
    python: str | None = Field(
        None,
        description="the Python of an environment that has vLLM: a server is started with it",
        json_schema_extra=MAY_CHANGE | NAMES_PROGRAM,
    )
    url: str | None = Field(
        None,
        description="a server that already runs on this machine, instead of python",
        json_schema_extra=MAY_CHANGE,
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="type of the server's weights; default: that of the model's weights"
    )
    cache_mib: Positive = Field(
        1024, description="the server's memory for keys and values, in MiB", json_schema_extra=MAY_CHANGE
    )
    arguments: list[str] = Field(
        default_factory=list, description="further arguments of the server", json_schema_extra=MAY_CHANGE
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="environment variables of the server, such as CUDA_VISIBLE_DEVICES",
        json_schema_extra=MAY_CHANGE,
    )
    start_timeout: Positive = Field(
        300, description="seconds until the server must be ready", json_schema_extra=MAY_CHANGE
    )
    timeout: Positive = Field(600, description="seconds until a request must be answered", json_schema_extra=MAY_CHANGE)
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="largest mean difference between the server's log-probabilities and the model's, checked at the "
        "start; default: 0.001 if both compute in float32, else 0.05",
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: those of a server that is started here."""
        keys = ("dtype", "cache_mib", "arguments", "environment", "start_timeout")
        return {} if self.url is None else dict.fromkeys(keys, "with url: that server has already started")

    def unsupported(self, generation: "GenerationConfig") -> dict[str, str]:
        """Return the settings with which the server does not report probabilities over the whole vocabulary."""
        why = "vLLM reports no log-probabilities over the whole vocabulary with it; set {}, or engine=transformers"
        neutral = {"top_k": 0, "top_p": 1, "min_new_tokens": 0}
        return {
            key: why.format(f"{key}={value}") for key, value in neutral.items() if getattr(generation, key) != value
        }

    def impossible(self) -> dict[Place, str]:
        """Return a problem unless there is exactly one server."""
        if (self.python is None) == (self.url is None):
            return {("python",): "set one of python, which starts a server, and url, a server that already runs"}
        return {}


ENGINES: Registry[type[EngineConfig]] = Registry(
    "engine", {"transformers": TransformersEngineConfig, "vllm": VllmEngineConfig}
)
"""Every kind of engine. A plugin registers its kinds here, see ``docs/extending.md``."""

EngineReference = Annotated[EngineConfig, Kinds(EngineConfig, "kind", ENGINES, "transformers"), NamedBy("kind")]
