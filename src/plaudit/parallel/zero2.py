"""Gradients and optimizer in shares: DeepSpeed's ZeRO stage 2 (Rajbhandari et al. 2020).

Every process holds all weights. DeepSpeed adds up the gradients of all processes while each backward pass runs, keeps
of the sum the share of this process, and lets it update its share of the weights, which then goes to everybody. So
every process must go through the same backward passes, and the order in which parameters get their gradients must be
the same everywhere.
"""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import OptimizerConfig
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.parallel.strategy import OutOfMemoryElsewhereError
from plaudit.runs.checkpoints import load_optimizer_tensors, optimizer_tensors
from plaudit.runs.session import Session
from plaudit.training.optimization import ParameterGroup, build_optimizer, set_learning_rate

# Elements that are sent at once: 200 MB of float32. DeepSpeed's own default keeps a buffer of 2 GB.
BUCKET_ELEMENTS = 50_000_000


class Zero2Strategy:
    """AdamW whose state, like the gradients, is shared out among the processes."""

    def __init__(
        self, module: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig, session: Session
    ) -> None:
        self.session = session
        self.file = f"optimizer-{session.rank + 1}-of-{session.processes}"
        parameters = [parameter for group in groups for _, parameter in group.named_parameters]
        _refuse_mixed_types(parameters)
        self.optimizer = build_optimizer(groups, config)
        # DeepSpeed replaces the parameters of each group by one flat tensor: this process's share of them, in float32.
        self.engine = _engine(module, self.optimizer, config)
        self.shares = [(f"group-{number}", _only(group)) for number, group in enumerate(self.optimizer.param_groups)]
        self.shares_are_weights = parameters[0].dtype == torch.float32
        self.passes = 0
        self.arrivals = 0
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrival_of(number))
            for number, parameter in enumerate(parameters)
        ]

    # One step --------------------------------------------------------------------------------------------------------

    def dummy_trees(self, trees: Sequence[PromptTree], batches: int) -> list[PromptTree]:
        """Return one small tree for every micro-batch that the busiest process has more than this one."""
        everyone = self.session.gather((batches, list(trees[:1])))
        spare = [tree for _, first in ((batches, trees[:1]), *everyone) for tree in first]
        missing = max(count for count, _ in everyone) - batches
        return spare[:1] * missing

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, summed over all processes, to this process's share.

        Raises:
            OutOfMemoryElsewhereError: another process has no loss, having run out of memory on the way to it.
            PlauditError: this process ran out of memory in the midst of the exchange, which cannot be taken back.
        """
        if self.session.any(False):
            raise OutOfMemoryElsewhereError
        self.passes += 1
        try:
            self.engine.backward(loss, scale_wrt_gas=False)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            raise PlauditError(
                "out of memory in a backward pass, in the midst of which distributed=zero2 exchanges gradients: it "
                "cannot be repeated. Lower token_budget, or use gradient_checkpointing=true; the run continues from "
                "its last checkpoint"
            ) from fault

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        sharding = self.engine.optimizer
        sharding.zero_grad(set_to_none=True)
        for number in range(len(self.shares)):
            sharding.all_grad_tensors[number] = sharding.averaged_gradients[number] = None
        self.passes = self.arrivals = 0

    def step(self, factor: float) -> Tensor:
        """Clip, update this process's share of the weights and exchange the shares.

        Raises PlauditError if the processes' gradients came in different orders, so that their sums are wrong.
        """
        if self.passes == 0:
            return torch.zeros(())
        if len(set(self.session.gather(self.arrivals))) > 1:
            raise PlauditError(
                "distributed: zero2 needs the same parameters to learn in the same order in every process, which "
                "those of this model do not; use distributed=ddp"
            )
        set_learning_rate(self.optimizer, factor)
        self.engine.step()
        self.passes = self.arrivals = 0
        norm = float(self.engine.get_global_grad_norm())
        # DeepSpeed's norm is -1 where the true one is no number.
        return torch.tensor(norm if norm >= 0 else math.nan)

    def _arrival_of(self, number: int) -> Any:
        def note(_: Tensor) -> None:
            self.arrivals = hash((self.arrivals, number))

        return note

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, dict[str, Tensor]]:
        """Return this process's share of the optimizer's state, and of the weights where the model's are rounded."""
        weights = {} if self.shares_are_weights else {f"weight/{name}": share.detach() for name, share in self.shares}
        return {self.file: optimizer_tensors(self.optimizer, self.shares) | weights}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what was saved in ``file``; shares of the weights that are not in it come from the model."""
        self.engine.optimizer.refresh_fp32_params()
        weights = {place: tensor for place, tensor in tensors.items() if place.startswith("weight/")}
        with torch.no_grad():
            for name, share in self.shares:
                share.copy_(weights.get(f"weight/{name}", share))
        state = {place: tensor for place, tensor in tensors.items() if place not in weights}
        load_optimizer_tensors(self.optimizer, self.shares, state)

    def close(self) -> None:
        """Take DeepSpeed's hooks off the parameters, so that its memory is free for the next stage."""
        for hook in self.hooks:
            hook.remove()
        self.engine.destroy()


def _engine(module: nn.Module, optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> Any:
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor` is deprecated", FutureWarning)
    import deepspeed

    # On a CPU DeepSpeed would compile an operation of its own, for minutes, instead of using torch's process group.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Losses are divided by the units of the whole step, so gradients are added up, over as many backward passes as
        # there are before ``step``.
        "managed_gradient_accumulation": False,
        "gradient_allreduce_op": "sum",
        "gradient_clipping": config.max_gradient_norm or 0.0,
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": False,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
        },
    }
    # In a list of its own the model is never called by DeepSpeed, nor DeepSpeed by the model.
    engine, *_ = deepspeed.initialize(
        model=nn.ModuleList([module]), optimizer=optimizer, config=settings, dist_init_required=False
    )
    return engine


def _only(group: Mapping[str, Any]) -> nn.Parameter:
    (share,) = group["params"]
    return share


def _refuse_mixed_types(parameters: Sequence[Tensor]) -> None:
    types = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})
    if len(types) > 1:
        raise PlauditError(
            f"distributed: zero2 needs weights of one type, and this model learns {' and '.join(types)}; set "
            "model.dtype=float32 with precision=bf16, or use distributed=ddp"
        )
