"""The other columns of a prompt's row reach the reward function, from the file to every score."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_runs import trainer

FORMATS: dict[str, Any] = {
    "prompt": lambda prompt: {"prompt": prompt},
    "prompt_response": lambda prompt: {"prompt": prompt, "response": " w3"},
    "ranked_responses": lambda prompt: {"prompt": prompt, "responses": [" w3", " w4"], "ranks": [0, 1]},
    "messages": lambda prompt: {"messages": [{"role": "user", "content": prompt}]},
}


def number_in(prompt: str) -> int:
    """The number of the first word, regardless of the prompt's template."""
    found = re.search(r"w(\d+)", prompt)
    assert found
    return int(found[1])


def wanted(prompts: Sequence[str], responses: Sequence[str], fields: Sequence[Mapping[str, Any]]) -> list[float]:
    assert [own["number"] for own in fields] == [number_in(prompt) for prompt in prompts]
    # A response without a judgement is kept: the reward function may compare with it.
    assert all(own.get("response", " w3") == " w3" for own in fields)
    assert all(set(own) - {"response"} == {"number", "wanted"} for own in fields)
    return [own["wanted"] for own in fields]


@pytest.mark.parametrize("name", FORMATS)
def test_a_reward_function_gets_the_other_columns(folder: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / "prompts.jsonl"
    rows = [FORMATS[name](f"w{number} w1") | {"number": number, "wanted": 0.5 * number**2} for number in range(12)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task: Any = trainer(
        folder,
        f"rl.prompts.sources=[{{path: {source}, format: {name}}}]",
        "rl.prompts.held_out_fraction=0.3",
        "rl.prompts.max_unknown_fraction=1.0",  # the words of the template of dialogues are not in the vocabulary
        f"rl.rewards=[{{name: taste, kind: function, function: '{__name__}:wanted'}}]",
        "rl.value_model=null",
        "rl.responses_per_prompt=2",
        "rl.advantages=remax",
        "rl.scale_rewards=false",
        "rl.kl={coefficient: 0}",
    ).task
    task.begin_step(1)
    assert all(("response" in row.row.fields) == (name == "prompt_response") for row in task.prompts.rows)
    numbers = {row.tree.prompt: number_in(row.prompt_text) for row in task.prompts.rows}
    expected = [0.5 * numbers[tree.prompt] ** 2 for tree in task.experience.trees for _ in tree.responses]
    assert len(set(expected)) > 2
    assert torch.equal(task.experience.rows.scores, torch.tensor(expected))
    # The greedy response to a prompt has the same columns, and so the same score.
    assert not task.experience.rows.advantages.any()
    held_out = [0.5 * number_in(request.prompt_text) ** 2 for (request,) in task.held_out.requests]
    assert task.measure(0)["held_out/taste"] == pytest.approx(sum(held_out) / len(held_out))
