"""Weights, gradients and optimizer state in shards: torch's ``fully_shard``, known as FSDP2.

Every process holds a shard of each parameter's rows. A module gathers the whole weights of a transformer block before
the block's forward and backward pass and drops them afterwards; gradients are summed and sharded during the backward
pass. Therefore all processes must run the same number of passes.

Only the main process loads a model, into the memory of the CPU. When the model is prepared, each process gets its rows,
one tensor after the other, so that no device ever holds a whole model.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from plaudit.config.schema.distribution import Fsdp2Config
from plaudit.models.collective_passes import register_collective_passes
from plaudit.models.loading.outline import from_outline, outline_of
from plaudit.models.trunk import blocks_of
from plaudit.parallel.processes import Processes
from plaudit.parallel.saved_files import WEIGHT, SavedFiles, sliced_name
from plaudit.parallel.shards import check_weights, distributed_like, local_part, roots_of, shards_of, units_of
from plaudit.parallel.state import load_optimizer_tensors, optimizer_tensors, trained_parameters
from plaudit.parallel.strategy import Item, Loaded
from plaudit.parallel.uneven_passes import missing_examples
from plaudit.parallel.weight_transfer import (
    computing_on_cpu,
    give_memory,
    receive,
    receive_rows,
    take_weights,
    whole_on_cpu,
)


class Fsdp2Strategy:
    """Shards the weights of all models, and the gradients and the optimizer state of the trained ones."""

    repeatable = False
    optimizer: torch.optim.Optimizer

    def __init__(self, config: Fsdp2Config, processes: Processes) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        # Outputs that are views are harmless as long as nothing changes them in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
        self.config, self.processes = config, processes
        shards = processes.count // config.replicas
        self.mesh = init_device_mesh(
            processes.device.type, (config.replicas, shards), mesh_dim_names=("replicas", "shards")
        )
        if config.replicas == 1:
            self.mesh = self.mesh["shards"]
        self._shard_of = [rank % shards for rank in range(processes.count)]
        self._own_shard, self._shards = self._shard_of[processes.rank], shards
        self.parameters: dict[str, nn.Parameter] = {}
        self.max_gradient_norm: float | None = None
        self.passes = 0

    def load(self, load: Callable[[torch.device], Loaded]) -> Loaded:
        """Load in the main process, on the CPU; the others get the models with empty parameters."""
        loaded: list[Loaded] = []

        def outline() -> bytes:
            loaded.append(load(torch.device("cpu")))
            return outline_of(loaded[0])

        sent = self.processes.from_main(outline)
        return loaded[0] if loaded else from_outline(sent)

    def prepare(self, module: nn.Module) -> None:
        """Shard a module. Raises PlauditError if its weights cannot be sharded.

        Parameters that a module adds to one that is prepared, such as a head, are not sharded.
        """
        for root in roots_of(module):
            if not units_of(root):
                self._shard(root)
            self._copy_rest(root)

    def start(
        self, module: nn.Module, make_optimizer: Callable[[], torch.optim.Optimizer], max_gradient_norm: float | None
    ) -> None:
        """Shard everything that is trained, and create an optimizer over this process's shards."""
        self.prepare(module)
        self.parameters = trained_parameters(module)
        self.optimizer = make_optimizer()
        self.max_gradient_norm = max_gradient_norm

    def _shard(self, root: nn.Module) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        check_weights(root)
        weights = take_weights(root)
        param_dtype = torch.bfloat16 if self.config.param_dtype == "bf16" else None
        # Inputs are cast by autocast, as in one process.
        policy = MixedPrecisionPolicy(param_dtype, torch.float32, cast_forward_inputs=False)
        for block in blocks_of(root):
            fully_shard(
                block, mesh=self.mesh, mp_policy=policy, reshard_after_forward=self.config.reshard_after_forward
            )
        # By default a root keeps its gathered weights until the next backward pass, and so through optimizer steps.
        fully_shard(root, mesh=self.mesh, mp_policy=policy, reshard_after_forward=True)
        give_memory(root, self.processes.device)
        for name, parameter in root.named_parameters():
            receive_rows(local_part(parameter), self._of_main(weights.pop(name)), parameter.shape, self._shard_of)
        for unit in units_of(root):
            # Losses are already divided by the units of the whole step, so gradients are summed.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        # ``gathered`` computes with blocks only, so the root must have had a pass before.
        root.empty_pass = _empty_pass  # type: ignore[assignment]
        for name in ("empty_pass", *getattr(root, "forward_methods", ())):
            register_fsdp_forward_method(root, name)
        root.empty_pass()  # type: ignore[operator]
        register_collective_passes(root, lambda passes: self.processes.most(passes) - passes)

    def _copy_rest(self, root: nn.Module) -> None:
        """Give every process the parameters that are not sharded."""
        sharded = {part for unit in units_of(root) for part in unit.modules()}
        for part in (part for part in root.modules() if part not in sharded):
            for name, parameter in list(part.named_parameters(recurse=False)):
                own = torch.empty(parameter.shape, dtype=parameter.dtype, device=self.processes.device)
                receive(own, self._of_main(parameter.detach()))
                part.register_parameter(name, nn.Parameter(own, parameter.requires_grad))

    def _of_main(self, weights: Tensor) -> Tensor | None:
        return weights if self.processes.is_main else None

    @contextmanager
    def gathered(self, module: nn.Module) -> Iterator[None]:
        """Return a context in which this process holds all weights of a prepared module, in their own type."""
        units, whole = units_of(module), []
        if self.config.param_dtype == "bf16":  # units gather weights in bfloat16
            whole = [(owner, name, shard.full_tensor()) for owner, name, shard in shards_of(module)]
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        for owner, name, weights in whole:
            owner.register_parameter(name, nn.Parameter(weights, owner.get_parameter(name).requires_grad))
        try:
            yield
        finally:
            for unit in units:
                unit.reshard()
                reshards = unit is module or self.config.reshard_after_forward
                unit.set_reshard_after_forward(reshards, recurse=False)
            units_of(module)[0].reset_iter_state()

    @contextmanager
    def gathered_in_main(self, module: nn.Module) -> Iterator[None]:
        """Return a context in which the main process holds all weights of a prepared module, on the CPU."""
        units = units_of(module)
        for unit in units:
            unit.reshard()
        shards = shards_of(module)
        whole = whole_on_cpu([shard for *_, shard in shards], self.processes.is_main)
        if not self.processes.is_main:
            yield
            return
        with computing_on_cpu(module, units):
            for owner, name, shard in shards:
                owner.register_parameter(name, whole[shard])
            try:
                yield
            finally:
                for owner, name, shard in shards:
                    owner.register_parameter(name, shard)

    # One step --------------------------------------------------------------------------------------------------------

    def dummy_examples(self, examples: Sequence[Item], batches: int) -> list[Item]:
        """Return one example per micro-batch that this process has fewer than the process with the most."""
        return missing_examples(self.processes, examples, batches)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, summed over all processes, to this process's shards."""
        self.passes += 1
        loss.backward()

    def discard(self) -> None:
        """Forget the gradients since the last step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.passes = 0

    def step(self) -> Tensor:
        """Clip, and update this process's shards; if the norm is not finite, keep the weights."""
        gradients = [local_part(parameter.grad) for parameter in self.parameters.values() if parameter.grad is not None]
        norm = self._norm(gradients)
        if self.max_gradient_norm is not None:
            # As torch.nn.utils.clip_grads_with_norm_ does.
            factor = (self.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor)
        if torch.isfinite(norm) and self.passes:
            self.optimizer.step()
            self.discard()
        return norm

    def _norm(self, gradients: Sequence[Tensor]) -> Tensor:
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        squares = torch.stack([norm.square() for norm in norms]).sum() if norms else torch.zeros(())
        squares = squares.to(self.processes.device)
        torch.distributed.all_reduce(squares, group=self.mesh.get_group("shards"))
        return squares.sqrt()

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return this process's rows of the trained weights and of the optimizer's state, in the first replica."""
        if self.processes.rank >= self._shards:
            return {}
        weights = {f"{WEIGHT}/{name}": parameter for name, parameter in self.parameters.items()}
        tensors = {}
        for path, tensor in (weights | optimizer_tensors(self.optimizer, self.parameters.items())).items():
            key, _, name = path.partition("/")
            rows = self._own_rows(self.parameters[name])
            if rows:
                tensors[sliced_name(key, name, rows) if tensor.dim() else path] = local_part(tensor)
        return {f"shard-{self._own_shard + 1}-of-{self._shards}": tensors}

    def load_state(self, files: SavedFiles) -> None:
        """Restore this process's rows, from the shards of any number of processes or from whole tensors."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            rows = self._own_rows(parameter)
            with torch.no_grad():
                local_part(parameter).copy_(files.rows(WEIGHT, name, rows))
            for key in files.optimizer_keys(name):
                own = files.rows(key, name, rows)
                state[f"{key}/{name}"] = distributed_like(own, parameter) if own.dim() else own
        load_optimizer_tensors(self.optimizer, self.parameters.items(), state)

    def _own_rows(self, parameter: Tensor) -> range:
        """Return the rows of a parameter that this process holds; ``fully_shard`` splits like ``torch.chunk``."""
        rows = parameter.shape[0]
        size = -(-rows // self._shards)
        own = range(min(self._own_shard * size, rows), min((self._own_shard + 1) * size, rows))
        assert len(own) == len(local_part(parameter))
        return own

    def close(self) -> None:
        """Forget the optimizer."""
        self.parameters = {}
        del self.optimizer


def _empty_pass() -> None:
    """Compute nothing."""
