"""Distribution strategies: a section for each kind, and the registry of kinds."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from plaudit.config.schema.base import MAY_CHANGE, NamedBy, Positive, Section
from plaudit.config.schema.kinds import Kinds
from plaudit.registry import Registry


class StrategyConfig(Section):
    """How processes train one model together. A plain string means ``kind``."""

    strategy: ClassVar[str]
    """``module:class`` of the strategy; it is built from this section and the processes, see
    ``plaudit.parallel.strategy``."""

    several: ClassVar[bool] = True
    """Whether the strategy needs several processes; otherwise it needs exactly one."""

    requirement: ClassVar[str | None] = None
    """A package that must be installed, as in ``pip install``."""

    remedy: ClassVar[str] = ""
    """The command that installs the package."""

    kind: str = Field(description="which strategy", json_schema_extra=MAY_CHANGE)

    def data_ranks(self, processes: int) -> Sequence[int]:
        """Return the data rank of every process; processes with the same one compute the same rows together."""
        return range(processes)

    def unsuitable(self, processes: int) -> Mapping[str, str]:
        """Return the keys that do not fit this number of processes, each with what is wrong and the remedy."""
        return {}


class NoDistributionConfig(StrategyConfig):
    """One process."""

    strategy: ClassVar[str] = "plaudit.parallel.single:SingleStrategy"
    several: ClassVar[bool] = False

    kind: Literal["none"] = Field("none", description="one process", json_schema_extra=MAY_CHANGE)


class ReplicatedConfig(StrategyConfig):
    """Every process holds all weights, gradients and optimizer state."""

    strategy: ClassVar[str] = "plaudit.parallel.replicated:ReplicatedStrategy"

    kind: Literal["replicated"] = Field(
        "replicated", description="everything whole in each process", json_schema_extra=MAY_CHANGE
    )


class Zero2Config(StrategyConfig):
    """Every process holds all weights, and a shard of the gradients and the optimizer state (DeepSpeed ZeRO 2)."""

    strategy: ClassVar[str] = "plaudit.parallel.zero2:Zero2Strategy"
    # Older versions ignore settings that training needs; later versions may change their internals.
    requirement: ClassVar[str | None] = "deepspeed>=0.19.6,<0.20"
    remedy: ClassVar[str] = "pip install -U 'plaudit[deepspeed]'"

    kind: Literal["zero2"] = Field(
        "zero2", description="gradients and optimizer state in shards", json_schema_extra=MAY_CHANGE
    )


class Fsdp2Config(StrategyConfig):
    """Every process holds a shard of all weights, gradients and optimizer state (torch's `fully_shard`)."""

    strategy: ClassVar[str] = "plaudit.parallel.fsdp2:Fsdp2Strategy"
    requirement: ClassVar[str | None] = "torch>=2.13"
    remedy: ClassVar[str] = "pip install -U torch"

    kind: Literal["fsdp2"] = Field(
        "fsdp2", description="weights, gradients and optimizer state in shards", json_schema_extra=MAY_CHANGE
    )
    reshard_after_forward: bool = Field(
        True,
        description="drop a block's gathered weights after its forward pass and gather them again in the backward "
        "pass; false needs more memory and less communication",
        json_schema_extra=MAY_CHANGE,
    )
    replicas: Positive = Field(
        1,
        description="number of groups of processes that each hold the whole model in shards (hybrid sharding); it must "
        "divide the number of processes",
        json_schema_extra=MAY_CHANGE,
    )
    param_dtype: Literal["bf16"] | None = Field(
        None,
        description="type of the gathered weights and of the computation with them; bf16 halves the communication; "
        "default: their own type",
    )

    def unsuitable(self, processes: int) -> Mapping[str, str]:
        """Return ``replicas`` unless every replica has the same number of processes."""
        if processes % self.replicas == 0:
            return {}
        return {"replicas": f"{self.replicas} replicas cannot share {processes} processes equally; choose a divisor"}


STRATEGIES: Registry[type[StrategyConfig]] = Registry(
    "distribution strategy",
    {
        "none": NoDistributionConfig,
        "replicated": ReplicatedConfig,
        "zero2": Zero2Config,
        "fsdp2": Fsdp2Config,
    },
)
"""Every kind of strategy. A plugin registers its kinds here, see ``docs/extending.md``."""

StrategyReference = Annotated[StrategyConfig, Kinds(StrategyConfig, "kind", STRATEGIES, "none"), NamedBy("kind")]
