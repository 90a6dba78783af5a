"""Conversions between flat response tokens [N] and rows [responses, time]."""

from collections.abc import Sequence

import torch
from torch import Tensor


def response_mask(lengths: Tensor, time: int | None = None) -> Tensor:
    """Return the bool mask [responses, time] of real tokens; ``time`` defaults to the longest response."""
    width = int(lengths.max()) if time is None else time
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def to_rows(flat: Tensor, lengths: Tensor) -> Tensor:
    """Turn values of response tokens [N] into rows [responses, longest], zero after the end of each response."""
    mask = response_mask(lengths)
    return torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device).masked_scatter(mask, flat)


def rows_from(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors [length_i] to rows [responses, longest], zero after the end of each."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
