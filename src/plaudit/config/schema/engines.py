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
    """vLLM servers, which get the weights after every iteration. See docs/engines.md."""

    engine: ClassVar[str] = "plaudit.rollouts.engines.vllm.engine:VllmEngine"

    kind: Literal["vllm"] = Field("vllm", description="vLLM servers")
    python: str | None = Field(
        None,
        description="the Python of an environment that has vLLM: servers are started with it",
        json_schema_extra=MAY_CHANGE | NAMES_PROGRAM,
    )
    servers: Positive = Field(
        1, description="number of servers to start; requests are spread over them", json_schema_extra=MAY_CHANGE
    )
    url: str | list[str] | None = Field(
        None,
        description="a server that already runs, or several, instead of python",
        json_schema_extra=MAY_CHANGE,
    )
    weights: Literal["file", "broadcast"] = Field(
        "file",
        description="how the servers get the weights. file: through a file, for servers on this machine; broadcast: "
        "through a process group, gloo on a CPU and NCCL on GPUs",
        json_schema_extra=MAY_CHANGE,
    )
    sleep: bool = Field(
        False,
        description="the servers return their GPU memory while the models are trained (vLLM's sleep mode, level 2)",
        json_schema_extra=MAY_CHANGE,
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="type of the servers' weights; default: that of the model's weights"
    )
    cache_mib: Positive = Field(
        1024, description="each server's memory for keys and values, in MiB", json_schema_extra=MAY_CHANGE
    )
    arguments: list[str] = Field(
        default_factory=list, description="further arguments of the servers", json_schema_extra=MAY_CHANGE
    )
    environment: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="environment variables of the servers, such as CUDA_VISIBLE_DEVICES; a list has one value for each",
        json_schema_extra=MAY_CHANGE,
    )
    start_timeout: Positive = Field(
        300, description="seconds until the servers must be ready", json_schema_extra=MAY_CHANGE
    )
    timeout: Positive = Field(600, description="seconds until a request must be answered", json_schema_extra=MAY_CHANGE)
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="largest mean difference between a server's log-probabilities and the model's, checked at the "
        "start; default: 0.001 if both compute in float32, else 0.05",
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: those of a server that is started here."""
        keys = ("servers", "dtype", "cache_mib", "arguments", "environment", "start_timeout")
        return {} if self.url is None else dict.fromkeys(keys, "with url: that server has already started")

    def environment_of(self, number: int) -> dict[str, str]:
        """Return the environment variables of a server."""
        return {name: value if isinstance(value, str) else value[number] for name, value in self.environment.items()}

    @property
    def urls(self) -> list[str]:
        """The servers that already run."""
        return [self.url] if isinstance(self.url, str) else self.url or []

    def impossible(self) -> dict[Place, str]:
        """Return a problem unless servers are either started or named, each once, with a value for each variable."""
        if (self.python is None) == (self.url is None):
            return {("python",): "set one of python, which starts a server, and url, a server that already runs"}
        if self.url is not None and not 0 < len(self.urls) == len(set(self.urls)):
            return {("url",): "name at least one server, and each once"}
        return {
            ("environment", name): f"has {len(value)} values for {self.servers} servers: give one for each"
            for name, value in self.environment.items()
            if not isinstance(value, str) and len(value) != self.servers
        }


ENGINES: Registry[type[EngineConfig]] = Registry(
    "engine", {"transformers": TransformersEngineConfig, "vllm": VllmEngineConfig}
)
"""Every kind of engine. A plugin registers its kinds here, see ``docs/extending.md``."""

EngineReference = Annotated[EngineConfig, Kinds(EngineConfig, "kind", ENGINES, "transformers"), NamedBy("kind")]
