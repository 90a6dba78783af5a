"""The last block's MLP computes only the positions that are read.

Behind the last attention no position looks at another one. A reward model reads one state of each response, a policy
those in front of response tokens; the MLP of the last block, two thirds of its arithmetic, is wasted on all others.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

POSITION_WISE = "plaudit_position_wise"
"""Set on an MLP of which a trial has shown that its result at a position depends on that position alone."""


def last_mlp(trunk: nn.Module) -> nn.Module | None:
    """Return the MLP of the last of the trunk's blocks, or None where no module has that name."""
    lists = (module for module in trunk.modules() if isinstance(module, nn.ModuleList) and len(module))
    blocks = next(lists, None)
    return None if blocks is None else getattr(blocks[-1], "mlp", None)


@contextmanager
def mlp_only_at(trunk: nn.Module, positions: Tensor) -> Iterator[None]:
    """Let the last MLP compute the flat ``positions`` [n] (each once) of [rows x length], and return zeros elsewhere.

    Nothing changes where no trial has allowed it, or where activations are recomputed: that happens outside of this.
    """
    mlp = last_mlp(trunk)
    recomputed = trunk.training and any(getattr(part, "gradient_checkpointing", False) for part in trunk.modules())
    if mlp is None or recomputed or not getattr(mlp, POSITION_WISE, False):
        yield
        return
    shapes = []

    def gather(module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        (states,) = arguments
        shapes.append(states.shape[:2])
        return (states.flatten(0, 1)[positions][None],)

    def scatter(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        rows, length = shapes.pop()
        whole = output.new_zeros(rows * length, output.shape[-1])
        return whole.index_copy(0, positions, output[0]).view(rows, length, -1)

    hooks = mlp.register_forward_pre_hook(gather), mlp.register_forward_hook(scatter)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
