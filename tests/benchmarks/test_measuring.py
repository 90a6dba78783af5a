"""The measuring commands count, choose and print correctly; no test measures speed."""

import math
from pathlib import Path

import growth
import pytest
import scoring
import torch
from comparison.arithmetic import Shape, states_before, visible_pairs
from comparison.dialogues import write_dialogues
from comparison.environment import needed
from comparison.table import spread
from comparison.turns import Result, Side, by_turns
from torch.utils.flop_counter import FlopCounterMode

from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import SourceConfig
from plaudit.data.rows import RankingRow, Row
from plaudit.data.sources import SourceRows, read_source
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.acceleration.last_mlp import compute_read_positions_only, last_mlp
from tiny_models import tiny_causal_model


def test_tokens_attend_to_their_prompt_and_their_own_branch() -> None:
    # Prompt: 1 + 2. First response: tokens see 3, 4, 5. Second: 3.
    assert visible_pairs(PromptTree((1, 2), ((3, 4, 5), (6,)))) == 3 + 12 + 3


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_arithmetic_is_what_torch_counts(architecture: str) -> None:
    """Torch counts every pair of positions in attention, whether they see each other or not."""
    model = tiny_causal_model(architecture)
    model.set_attn_implementation("eager")
    trees = [PromptTree((5, 6, 7), ((8, 9),)), PromptTree((8, 9, 5), ((7, 6),))]
    batch, length = PADDED.build(trees, [0, 1]), 5
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        states = model.base_model(batch.input_ids, use_cache=False).last_hidden_state.flatten(0, 1)
        model.get_output_embeddings()(states[batch.predictor_index])
    shape = Shape.of(model)
    unseen = 4 * shape.width * shape.layers * (2 * length**2 - sum(map(visible_pairs, trees)))
    assert shape.forward(trees, 4, read=2 * length) == counter.get_total_flops() - unseen
    mlp = last_mlp(model.base_model)
    assert mlp is not None
    compute_read_positions_only(mlp)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden_states(model, batch, batch.last_token_index)
    assert shape.forward(trees, 0, read=2) == counter.get_total_flops() - unseen


def test_the_state_after_a_prompt_is_read_once_for_all_its_responses() -> None:
    trees = [PromptTree((5, 6, 7), ((8, 9), (7, 7, 7))), PromptTree((8,), ((7,),))]
    assert states_before(trees) == sum(len(PACKED.build(trees, [[n]]).predictor_index.unique()) for n in (0, 1))


def test_a_peer_gets_only_the_requirements_for_this_machine() -> None:
    declared = [
        "Some_Thing[picture,sound]>=2",
        "torch==2.13.0",
        "windows-only; sys_platform == 'win32'",
        "for-tests; extra == 'test'",
        "plain<3,>=1; python_version > '3'",
    ]
    assert needed(declared, ("torch", "some-thing[picture]")) == ["some-thing[sound]>=2", "plain<3,>=1"]


def test_sides_take_turns_and_must_do_the_same_work() -> None:
    order: list[str] = []

    def side(name: str, units: float) -> Side:
        def run() -> Result:
            order.append(name)
            return {"seconds": 1.0, "cpu_seconds": 1.0, "units": units}

        return run

    rounds = by_turns({"a": side("a", 3), "b": side("b", 3)}, 2)
    assert order == ["a", "b"] * 3
    assert [results["b"]["units"] for results in rounds] == [3, 3]
    with pytest.raises(SystemExit, match="not do the same work"):
        by_turns({"a": side("a", 3), "b": side("b", 4)}, 1)


def test_spread_is_median_minimum_and_maximum() -> None:
    assert spread([3.0, 1.0, 2.5]) == "median 2.50 (minimum 1.00, maximum 3.00)"


def test_prompts_get_responses_of_the_requested_length() -> None:
    short, usual, other = (1,) * 39, (2,) * 40, (3,) * 56
    prompts, others = [PromptTree((7,), ()), PromptTree((8,), ())], [PromptTree((9,), (short, usual, other))]
    trees = scoring.with_responses(prompts, others, 3, (40, 56))
    assert [tree.prompt for tree in trees] == [(7,), (8,)]
    assert [tree.responses for tree in trees] == [(usual, other, usual), (other, usual, other)]


def test_scores_are_compared_in_standard_deviations() -> None:
    ours = torch.tensor([0.0, 100.0])  # standard deviation 100 / sqrt 2
    assert scoring.difference(ours, ours + 1.0) == pytest.approx(math.sqrt(2) / 100)
    with pytest.raises(SystemExit, match="do not compute the same"):
        scoring.difference(ours, ours + 10.0)
    with pytest.raises(SystemExit, match="do not compute the same"):
        scoring.difference(ours, ours * math.nan)


def test_trees_of_random_tokens_have_the_requested_lengths() -> None:
    trees = growth.random_trees([(4, (2, 3)), (1, (5,))])
    assert [(len(tree.prompt), tuple(map(len, tree.responses))) for tree in trees] == [(4, (2, 3)), (1, (5,))]


def test_dialogues_of_the_embedded_world_are_pairs_of_every_length_that_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl.gz"
    write_dialogues(path, 600)
    read: SourceRows[Row] = read_source(SourceConfig(path=str(path)))
    assert (read.row_format.name, len(read.rows), read.rejects) == ("hh_rlhf", 600, [])
    prompts = [row.prompt for row in read.rows if isinstance(row, RankingRow) and isinstance(row.prompt, tuple)]
    words = [sum(len(message.content.split()) for message in prompt) for prompt in prompts]
    # One word is about one token here: sampling and scoring ask for 64 different prompts of 105 to 128 tokens.
    assert sum(length < 60 for length in words) > 100
    assert sum(95 <= length <= 115 for length in words) > 20
    assert max(words) > 200
    write_dialogues(tmp_path / "again.jsonl.gz", 600)
    assert (tmp_path / "again.jsonl.gz").read_bytes() == path.read_bytes()
