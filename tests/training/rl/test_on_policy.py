"""Old log-probabilities read during an iteration's only step, compared with those of a pass before the step."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.ragged import to_rows
from plaudit.batching.trees import PromptTree
from plaudit.models.heads.log_probabilities import TokenStatistics
from plaudit.training.rl import readings
from plaudit.training.rl.experience import Experience, ResponseRows, numbered
from plaudit.training.rl.readings import ReadDuringStep, is_needed_before
from rl_runs import load_fitting, rl_metrics

SINGLE = ["rl.epochs=1", "rl.minibatches=1", "rl.responses_per_prompt=3", "rl.optimizer.learning_rate=0.01"]
GRPO = [*SINGLE, "rl.advantages=grpo", "rl.kl={placement: loss, estimator: k3, coefficient: 0.2}"]
KINDS = {
    "grpo": GRPO,
    "entropy-bonus": [*GRPO, "rl.entropy_coefficient=0.1"],
    "adaptive": [*SINGLE, "rl.advantages=rloo", "rl.kl={placement: loss, target: 0.1, horizon: 50}"],
    "online_dpo": [*SINGLE, "rl.objective=online_dpo"],
    "best_of_n": [*SINGLE, "rl.objective=best_of_n"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [48, 8192])
def test_reading_during_the_step_changes_no_number(
    folder: Path, kind: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*KINDS[kind], f"rl.token_budget={budget}", "rl.pack_length=24", "rl.iterations=3"]
    read = rl_metrics(folder, f"read-{kind}-{budget}", *options)
    monkeypatch.setattr(readings, "is_needed_before", lambda config: True)
    asked = rl_metrics(folder, f"asked-{kind}-{budget}", *options)
    assert len(read) == len(asked) == 3
    assert abs(asked[-1]["kl"]) > 1e-3
    for one, two in zip(read, asked, strict=True):
        del one["seconds"], two["seconds"]
        assert one == pytest.approx(two, rel=1e-3, abs=2e-5)


NEEDED = [
    ["rl.epochs=2"],
    ["rl.minibatches=2"],
    ["rl.advantages=gae"],
    ["rl.kl={coefficient: 0.1}"],
    ["rl.kl={placement: loss, budget: 2.0}"],
    ["rl.importance_correction=2"],
]


@pytest.mark.parametrize("changes", NEEDED, ids=lambda changes: changes[-1])
def test_settings_that_need_a_pass_before_the_step(folder: Path, changes: list[str]) -> None:
    def config(*overrides: str) -> Any:
        return load_fitting(folder / "recipe.yaml", overrides).rl

    assert not is_needed_before(config(*GRPO))
    assert not is_needed_before(config(*GRPO, "rl.kl={coefficient: 0.0}"))
    assert is_needed_before(config(*GRPO, *changes))


def test_readings_of_all_processes_come_in_the_order_of_the_responses() -> None:
    trees = [PromptTree((9,), (tuple(range(1, number + 2)),)) for number in range(4)]
    lengths, empty = torch.tensor([1, 2, 3, 4]), torch.zeros(4, 4)
    rows = ResponseRows(empty, empty, empty, empty, empty, empty, empty[:, 0], lengths > 0)
    experience = Experience(numbered(trees), lengths, rows, None)
    gathered: list[Any] = []

    def gather(value: Any) -> list[Any]:
        gathered.append(value)
        return gathered

    for numbers in ([3, 0], [2, 1]):
        reader: Any = SimpleNamespace(session=SimpleNamespace(processes=SimpleNamespace(gather=gather)))
        roles: Any = None
        reading = ReadDuringStep(reader, roles, 1.0)
        batch = PADDED.build(trees, numbers)
        flat = torch.tensor([float(number) for number in numbers for _ in range(number + 1)])
        responses, statistics = torch.tensor(numbers), TokenStatistics(flat, -flat)
        old = reading.old_log_probabilities(experience, batch, responses, statistics)
        reading.record(batch, responses, statistics)
        assert torch.equal(old, to_rows(flat, batch.lengths))
        found = reading.policy_rows()
    assert found.log_probabilities.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [2, 2, 2, 0], [3, 3, 3, 3]]
    assert torch.equal(found.entropies, -found.log_probabilities)
