"""Gradients and optimizer state in shards: DeepSpeed's ZeRO stage 2 (Rajbhandari et al. 2020).

Every process holds all weights. DeepSpeed sums the gradients of all processes during each backward pass. Each process
keeps its shard of the sum, updates its shard of the weights and sends it to the others. Therefore all processes must
run the same number of backward passes, and parameters must receive their gradients in the same order in all of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.config.schema.distribution import StrategyConfig
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.parallel.deepspeed_internals import check_internals, forget_gradients, import_deepspeed, refresh_shards
from plaudit.parallel.gradients import BUCKET_ELEMENTS
from plaudit.parallel.processes import Processes
from plaudit.parallel.saved_files import SavedFiles
from plaudit.parallel.state import load_optimizer_tensors, load_weights, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item, Loaded, OutOfMemoryElsewhereError
from plaudit.parallel.uneven_passes import missing_examples


class Zero2Strategy:
    """Shards the gradients and the optimizer state over the processes."""

    repeatable = True

    def __init__(self, config: StrategyConfig, processes: Processes) -> None:
        self.processes = processes
        self.own_file = f"optimizer-{processes.rank + 1}-of-{processes.count}"
        self.passes = 0
        self.arrivals = 0

    def load(self, load: Callable[[torch.device], Loaded]) -> Loaded:
        """Load in every process, on its device."""
        return load(self.processes.device)

    def prepare(self, module: nn.Module) -> None:
        """Do nothing: every process keeps complete weights."""

    def start(
        self, module: nn.Module, make_optimizer: Callable[[], torch.optim.Optimizer], max_gradient_norm: float | None
    ) -> None:
        """Create the optimizer, and shard its state with DeepSpeed."""
        self.parameters = trained_parameters(module)
        dtype = _only_type(self.parameters.values())
        self.optimizer = make_optimizer()
        # DeepSpeed replaces the parameters of each group by one flat float32 tensor, this process's shard.
        self.engine = _engine(module, self.optimizer, max_gradient_norm, self.processes.device.type)
        self.shards = [(f"group-{number}", _only(group)) for number, group in enumerate(self.optimizer.param_groups)]
        self.shards_are_weights = dtype == torch.float32
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrival_of(number))
            for number, parameter in enumerate(self.parameters.values())
        ]

    def gathered(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return an empty context: the weights are always complete."""
        return nullcontext()

    def gathered_in_main(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return an empty context: the weights are always complete."""
        return nullcontext()

    # One step --------------------------------------------------------------------------------------------------------

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return one example per micro-batch that this process has fewer than the process with the most."""
        return missing_examples(self.processes, examples, batches)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, summed over all processes, to this process's shard.

        Raises:
            OutOfMemoryElsewhereError: another process ran out of memory before its loss was computed.
            PlauditError: this process ran out of memory during the exchange, which cannot be undone.
        """
        if self.processes.any(False):
            raise OutOfMemoryElsewhereError
        self.passes += 1
        try:
            self.engine.backward(loss, scale_wrt_gas=False)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            raise PlauditError(
                "out of memory in a backward pass, during which distributed=zero2 exchanges gradients, so it cannot be "
                "repeated. Lower token_budget, or set gradient_checkpointing=true; the run continues from its last "
                "checkpoint"
            ) from fault

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        forget_gradients(self.engine, len(self.shards))
        self.passes = self.arrivals = 0

    def step(self) -> Tensor:
        """Clip, update this process's shard of the weights and exchange the shards.

        Raises PlauditError if gradients were computed in different orders in the processes: their sums are wrong then.
        """
        if self.passes == 0:
            return torch.zeros(())
        if len(set(self.processes.gather(self.arrivals))) > 1:
            raise PlauditError(
                "distributed: zero2 needs the same parameters to be trained in the same order in every process, which "
                "this model does not satisfy; use distributed=replicated"
            )
        self.engine.step()
        self.passes = self.arrivals = 0
        norm = float(self.engine.get_global_grad_norm())
        # DeepSpeed returns -1 for a norm that is not finite.
        return torch.tensor(norm if norm >= 0 else math.nan)

    def _arrival_of(self, number: int) -> Callable[[Tensor], None]:
        def note(_: Tensor) -> None:
            self.arrivals = hash((self.arrivals, number))

        return note

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return this process's shard of the optimizer's state; the main process adds the weights.

        If the model's weights are not float32, the optimizer's state also includes the float32 shards of the weights.
        """
        weights = {} if self.shards_are_weights else {f"weight/{name}": shard.detach() for name, shard in self.shards}
        state = {self.own_file: optimizer_tensors(self.optimizer, self.shards) | weights}
        if self.processes.is_main:
            state["model"] = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return state

    def load_state(self, files: SavedFiles) -> None:
        """Restore what ``state`` returned; float32 shards are taken from the model's weights."""
        files.require(["model", self.own_file])
        load_weights(self.parameters, files.load("model"))
        refresh_shards(self.engine)
        own = files.load(self.own_file)
        with torch.no_grad():
            for name, shard in self.shards:
                shard.copy_(own.get(f"weight/{name}", shard))
        state = {path: tensor for path, tensor in own.items() if not path.startswith("weight/")}
        load_optimizer_tensors(self.optimizer, self.shards, state)

    def close(self) -> None:
        """Remove DeepSpeed's hooks from the parameters, so that its memory is free for the next stage."""
        for hook in self.hooks:
            hook.remove()
        self.engine.destroy()
        del self.engine, self.optimizer, self.parameters, self.shards, self.hooks


def _engine(module: nn.Module, optimizer: torch.optim.Optimizer, max_gradient_norm: float | None, device: str) -> Any:
    deepspeed = import_deepspeed(device)
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Losses are already divided by the units of the whole step, so gradients are summed over processes and over
        # the backward passes of a step.
        "managed_gradient_accumulation": False,
        "gradient_allreduce_op": "sum",
        "gradient_clipping": max_gradient_norm or 0.0,
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": False,
            # DeepSpeed's default buckets take 2 GB.
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
        },
    }
    # Wrapped in a list, the model never calls DeepSpeed's forward pass, and DeepSpeed never calls the model's.
    engine, *_ = deepspeed.initialize(
        model=nn.ModuleList([module]), optimizer=optimizer, config=settings, dist_init_required=False
    )
    check_internals(engine)
    return engine


def _only(group: Mapping[str, Any]) -> nn.Parameter:
    shard: nn.Parameter
    (shard,) = group["params"]
    return shard


def _only_type(parameters: Iterable[Tensor]) -> torch.dtype:
    types = {parameter.dtype for parameter in parameters}
    if len(types) > 1:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in types)
        raise PlauditError(
            f"distributed: zero2 needs weights of one type, but this model trains {' and '.join(names)}; set "
            "model.dtype=float32 with precision=bf16, or use distributed=replicated"
        )
    return types.pop()
