"""The sum of gradients over processes, their norm and clipping."""

import math
from collections.abc import Sequence

import pytest
import torch

from plaudit.parallel.gradients import clip_gradients, gradient_norm, sum_gradients
from plaudit.parallel.processes import OneProcess


def with_gradients(*gradients: list[float] | None) -> list[torch.nn.Parameter]:
    parameters = []
    for gradient in gradients:
        parameter = torch.nn.Parameter(torch.zeros(len(gradient) if gradient else 3))
        parameter.grad = torch.tensor(gradient) if gradient else None
        parameters.append(parameter)
    return parameters


def test_norm_of_all_gradients_together() -> None:
    norm = gradient_norm(with_gradients([3.0], None, [0.0, 4.0, 12.0]))
    assert (norm.dtype, norm.shape, norm.item()) == (torch.float32, (), 13.0)
    assert gradient_norm(with_gradients(None)).item() == 0.0
    assert gradient_norm([]).item() == 0.0


def test_norm_of_half_precision_gradients_is_computed_in_float32() -> None:
    parameter = torch.nn.Parameter(torch.zeros(100_000, dtype=torch.float16))
    parameter.grad = torch.full_like(parameter, 300.0)
    # In float16 the sum of squares would overflow.
    assert gradient_norm([parameter]).item() == pytest.approx(300 * math.sqrt(100_000), rel=1e-3)


def test_clipping_returns_the_former_norm_and_keeps_the_direction() -> None:
    parameters = with_gradients([3.0], None, [0.0, 4.0])
    assert clip_gradients(iter(parameters), 1.0).item() == 5.0
    assert gradient_norm(parameters).item() == pytest.approx(1.0, abs=1e-6)
    assert parameters[0].grad is not None
    assert parameters[0].grad.item() == pytest.approx(0.6, abs=1e-6)
    assert parameters[1].grad is None


@pytest.mark.parametrize("max_norm", [None, 5.1])
def test_gradients_below_the_limit_keep_every_bit(max_norm: float | None) -> None:
    parameters = with_gradients([3.0], [0.1, 4.0])
    before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    clip_gradients(parameters, max_norm)
    after = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert all(torch.equal(new, old) for new, old in zip(after, before, strict=True))


def test_a_norm_that_is_not_finite_is_returned_unchanged() -> None:
    assert clip_gradients(with_gradients([math.inf]), None).item() == math.inf
    assert math.isnan(clip_gradients(with_gradients([math.nan]), 1.0).item())


# Sums over processes --------------------------------------------------------------------------------------------------


class WithAnother(OneProcess):
    """This process and another one, which has the given gradients, or none for a parameter."""

    def __init__(self, others: list[torch.Tensor | None]) -> None:
        super().__init__(torch.device("cpu"))
        self.others = others
        self.sent: list[int] = []

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        self.present = [flag or other is not None for flag, other in zip(flags, self.others, strict=True)]
        return self.present

    def sum_in_place(self, tensor: torch.Tensor) -> None:
        parts = [other for other, present in zip(self.flat, self.present, strict=True) if present]
        start = sum(self.sent)
        self.sent.append(len(tensor))
        tensor += torch.cat(parts)[start : start + len(tensor)]

    @property
    def flat(self) -> list[torch.Tensor]:
        return [torch.zeros(size) if g is None else g.flatten() for g, size in zip(self.others, SIZES, strict=True)]


SIZES = [6, 1, 4, 2, 3]


@pytest.mark.parametrize("bucket, sent", [(100, [14]), (7, [7, 7]), (6, [6, 5, 3]), (1, [6, 1, 4, 3])])
def test_sums_of_two_processes_in_buckets(bucket: int, sent: list[int]) -> None:
    """The first and the last parameter have gradients in both processes, the others in one or none."""
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), *(torch.nn.Parameter(torch.zeros(size)) for size in SIZES[1:])]
    mine = [torch.arange(6.0).reshape(2, 3), torch.tensor([7.0]), None, None, torch.ones(3)]
    other = [torch.full((2, 3), 10.0), None, torch.tensor([1.0, 2.0, 3.0, 4.0]), None, torch.tensor([1.0, 2.0, 3.0])]
    for parameter, gradient in zip(parameters, mine, strict=True):
        parameter.grad = gradient
    processes = WithAnother(other)
    sum_gradients(parameters, processes, bucket)
    assert parameters[3].grad is None
    found = [p.grad.tolist() for p in parameters if p.grad is not None]
    assert found == [[[10, 11, 12], [13, 14, 15]], [7], [1, 2, 3, 4], [2, 3, 4]]
    assert processes.sent == sent


def test_gradients_of_two_types_are_sent_separately() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    sums: list[tuple[torch.dtype, int]] = []

    class Recording(OneProcess):
        def sum_in_place(self, tensor: torch.Tensor) -> None:
            sums.append((tensor.dtype, len(tensor)))

    sum_gradients(parameters, Recording(torch.device("cpu")))
    assert sums == [(torch.float32, 2), (torch.bfloat16, 2)]
