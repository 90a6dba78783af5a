"""Gradients: their sum over processes, their norm, and clipping."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from plaudit.parallel.processes import Processes

BUCKET_ELEMENTS = 50_000_000
"""Elements per collective: 200 MB of float32."""


def sum_gradients(parameters: Sequence[Tensor], processes: Processes, bucket_elements: int = BUCKET_ELEMENTS) -> None:
    """Replace every gradient by its sum over the processes.

    If only some processes have a gradient for a parameter, it counts as zero in the others; if none has, it stays None.
    Gradients are sent in flat buckets of at most ``bucket_elements`` elements; a larger gradient gets its own bucket.
    """
    present = processes.any_of([parameter.grad is not None for parameter in parameters])
    for parameter, somewhere in zip(parameters, present, strict=True):
        if somewhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients, bucket_elements):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        processes.sum_in_place(flat)
        for gradient, total in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(total.view_as(gradient))


def _buckets(gradients: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Yield the gradients in order, in buckets whose gradients have one device and one type."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        alike = bucket and (gradient.dtype, gradient.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and not (alike and size + gradient.numel() <= most):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm of all gradients together, a float32 scalar; 0 without gradients."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    whole: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return whole


def clip_gradients(parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
    """Scale the gradients so that their norm is at most ``max_norm``, and return the norm before scaling.

    None changes nothing. If the norm is not finite, the gradients are not finite afterwards either: check it before
    taking a step.
    """
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
