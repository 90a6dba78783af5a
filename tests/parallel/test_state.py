"""Optimizer state as named tensors: through a checkpoint to the same bits."""

from pathlib import Path

import pytest
import torch

from plaudit.parallel.state import load_optimizer_tensors, optimizer_tensors
from plaudit.runs.checkpoints import load_checkpoint, save_checkpoint


def trained_model(steps: int) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    vectors = {"params": [parameter for parameter in model.parameters() if parameter.ndim == 1], "weight_decay": 0.0}
    matrices = {"params": [parameter for parameter in model.parameters() if parameter.ndim == 2], "weight_decay": 0.1}
    optimizer = torch.optim.AdamW([vectors, matrices], lr=0.01)
    for step in range(steps):
        take_step(model, optimizer, step)
    return model, optimizer


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
    model(inputs).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_optimizer_resumes_from_a_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    model, optimizer = trained_model(3)
    path = save_checkpoint(
        tmp_path,
        3,
        {"model": dict(model.named_parameters()), "optimizer": optimizer_tensors(optimizer, model.named_parameters())},
        {},
        keep=1,
    )
    for step in (3, 4):
        take_step(model, optimizer, step)

    resumed, resumed_optimizer = trained_model(0)
    loaded = load_checkpoint(path)
    resumed.load_state_dict(loaded.tensors["model"])
    load_optimizer_tensors(resumed_optimizer, resumed.named_parameters(), loaded.tensors["optimizer"])
    assert resumed_optimizer.param_groups[0]["weight_decay"] == 0.0
    for step in (3, 4):
        take_step(resumed, resumed_optimizer, step)
    for (name, parameter), (_, other) in zip(model.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(parameter, other), name
    first = optimizer_tensors(optimizer, model.named_parameters())
    second = optimizer_tensors(resumed_optimizer, resumed.named_parameters())
    assert first.keys() == second.keys()
    assert {"exp_avg/0.weight", "exp_avg_sq/2.bias", "step/2.weight"} < first.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # What was loaded stays what it was: the optimizer works on copies.
    assert loaded.tensors["optimizer"]["step/2.weight"] == 3


def test_optimizer_state_of_another_model_is_refused() -> None:
    model, optimizer = trained_model(1)
    with pytest.raises(ValueError, match=r"no parameter 9\.weight"):
        load_optimizer_tensors(optimizer, model.named_parameters(), {"exp_avg/9.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"shape \(8,\) that has no name"):
        optimizer_tensors(optimizer, [("0.weight", next(model.parameters()))])
