"""Computes the last block's MLP only at the positions whose hidden states are used.

After the last attention, positions no longer depend on each other. A reward model uses one hidden state per response; a
policy uses the hidden states before response tokens. At all other positions, computing the last MLP (two thirds of its
block's arithmetic) is wasted.
"""

from collections.abc import Callable

from torch import Tensor, nn

from plaudit.models.acceleration.context import current_context
from plaudit.models.trunk import blocks_of


def last_mlp(trunk: nn.Module) -> nn.Module | None:
    """Return the MLP of the trunk's last block, or None if the block has no module named ``mlp``."""
    blocks = blocks_of(trunk)
    return getattr(blocks[-1], "mlp", None) if blocks else None


def compute_read_positions_only(mlp: nn.Module) -> Callable[[], None]:
    """Make an MLP compute only the positions in the forward context's ``read``, with zeros elsewhere.

    Correct only if the MLP's output at a position depends only on the input at that position. Returns a function that
    undoes the change. The hooks hold no state, so copies of the module keep the behavior.
    """
    hooks = mlp.register_forward_pre_hook(_gather), mlp.register_forward_hook(_scatter)

    def undo() -> None:
        for hook in hooks:
            hook.remove()

    return undo


def computes_read_positions_only(mlp: nn.Module) -> bool:
    """Whether ``compute_read_positions_only`` was called for an MLP or for the module that it was copied from."""
    return _gather in mlp._forward_pre_hooks.values()


def _gather(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    context = current_context()
    if context is None or context.read is None:
        return None
    (states,) = arguments
    # Positions repeat: the prompt's last token precedes each of its responses.
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
