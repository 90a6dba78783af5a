"""The last block's MLP computes only the positions that are read.

After the last attention, positions no longer depend on each other. A reward model uses one hidden state per response, a
policy those before response tokens. The last block's MLP, two thirds of that block's arithmetic, is wasted elsewhere.
"""

from collections.abc import Callable

from torch import Tensor, nn

from plaudit.models.acceleration.context import current_context


def last_mlp(trunk: nn.Module) -> nn.Module | None:
    """Return the MLP of the last of the trunk's blocks, or None where no module has that name."""
    lists = (module for module in trunk.modules() if isinstance(module, nn.ModuleList) and len(module))
    blocks = next(lists, None)
    return None if blocks is None else getattr(blocks[-1], "mlp", None)


def compute_read_positions_only(mlp: nn.Module) -> Callable[[], None]:
    """Let an MLP compute the positions that the forward pass reads, and return zeros elsewhere.

    Right only where the MLP's result at a position depends on that position alone. Returns what undoes it. The hooks
    hold no state, so copies of the module keep the behaviour.
    """
    hooks = mlp.register_forward_pre_hook(_gather), mlp.register_forward_hook(_scatter)

    def undo() -> None:
        for hook in hooks:
            hook.remove()

    return undo


def computes_read_positions_only(mlp: nn.Module) -> bool:
    """Whether ``compute_read_positions_only`` was called for an MLP, or for what it is a copy of."""
    return _gather in mlp._forward_pre_hooks.values()


def _gather(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    context = current_context()
    if context is None or context.read is None:
        return None
    (states,) = arguments
    # Positions repeat: the prompt's last token stands before each of its responses.
    positions = context.read.unique()
    context.gathered = positions, *states.shape[:2]
    return (states.flatten(0, 1)[positions][None],)


def _scatter(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    context = current_context()
    if context is None or context.gathered is None:
        return output
    positions, rows, length = context.gathered
    context.gathered = None
    whole = output.new_zeros(rows * length, output.shape[-1])
    return whole.index_copy(0, positions, output[0]).view(rows, length, -1)
