"""A few rows at a time equals all rows at once: results and gradients, and only the logits are kept."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from plaudit.algorithms.entropy import entropy
from plaudit.algorithms.language_modeling import likeliest_is_target
from plaudit.algorithms.log_probabilities import token_log_probabilities
from plaudit.models.heads import rowwise
from plaudit.models.heads.rowwise import by_rows

ROWS, WIDTH, BLOCK = 11, 7, 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowwise, "BLOCK_BYTES", BLOCK * WIDTH * 4)


def statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    log_probabilities = token_log_probabilities(logits, targets, 0.7)
    return log_probabilities, entropy(logits, 0.7), likeliest_is_target(logits.detach(), targets)


def material(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    logits[2, 3] = -torch.inf  # a token that is forbidden
    return logits.requires_grad_(), torch.randint(3, (ROWS,), generator=generator)


Call = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def learned(call: Call, dtype: torch.dtype) -> list[Tensor]:
    logits, targets = material(dtype)
    log_probabilities, entropies, likeliest = call(logits, targets)
    weights = torch.linspace(-1, 1, ROWS, dtype=log_probabilities.dtype)
    ((weights * log_probabilities).sum() + (weights**2 * entropies).sum()).backward()
    assert logits.grad is not None
    return [log_probabilities.detach(), entropies.detach(), likeliest, logits.grad]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_all_rows_at_once(dtype: torch.dtype) -> None:
    found = learned(lambda logits, targets: by_rows(statistics, logits, targets), dtype)
    for one, other in zip(found, learned(statistics, dtype), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_one_result_alone_may_be_learned_from() -> None:
    gradients = []
    for call in (statistics, lambda logits, targets: by_rows(statistics, logits, targets)):
        logits, targets = material(torch.float64)
        call(logits, targets)[0].sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)


def test_rows_come_in_blocks_and_again_for_the_gradient() -> None:
    sizes: list[int] = []

    def counted(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(logits))
        return statistics(logits, targets)

    logits, targets = material(torch.float32)
    kept: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_probabilities = by_rows(counted, logits, targets)[0]
    assert kept == [logits.shape, targets.shape]
    assert sizes == [3, 3, 3, 2]
    log_probabilities.sum().backward()
    assert sizes == 2 * [3, 3, 3, 2]
    by_rows(counted, logits[:BLOCK], targets[:BLOCK])
    assert sizes[8:] == [BLOCK]


def test_a_second_derivative_is_refused() -> None:
    logits, targets = material(torch.float64)
    log_probabilities = by_rows(statistics, logits, targets)[0]
    (gradient,) = torch.autograd.grad(log_probabilities.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
