"""A layout from outside the package: one class and one registered name."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forests import forest, plain_log_probabilities
from plaudit.batching.batches import Batch, TreeMask, make_batches
from plaudit.batching.layouts.base import lengths, targets
from plaudit.batching.layouts.packed import PACKED, PackedLayout
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import PromptTree
from plaudit.config.load import load_recipe
from plaudit.config.schema import FreshModel, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.install import TREES, install
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel, load_policy
from plaudit.registries.layouts import LAYOUTS
from tiny_models import tiny_causal_model
from tiny_runs import FRESH, tiny_recipe, write_tokenizer


class PaddedOnTheLeft:
    """One response per row; all rows end in the same column."""

    name = "left"
    needs_tree_mask = False

    def split(self, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> list[int]:
        """One tree at a time."""
        return list(range(len(trees)))

    def build(self, trees: Sequence[PromptTree], part: int) -> Batch:
        tree = trees[part]
        length = len(tree.prompt) + max(map(len, tree.responses))
        padding = [length - len(tree.prompt) - len(response) for response in tree.responses]
        rows = [[0] * pad + [*tree.prompt, *response] for pad, response in zip(padding, tree.responses, strict=True)]
        columns = torch.arange(length).expand(len(rows), length)
        real = columns >= torch.tensor(padding)[:, None]
        tokens = torch.cat(
            [torch.arange(length - len(response), length) + row * length for row, response in enumerate(tree.responses)]
        )
        return Batch(
            layout=self,
            trees=(tree,),
            tree_indices=(part,),
            input_ids=torch.tensor(rows),
            position_ids=(real.cumsum(-1) - 1).clamp(min=0),
            mask=TreeMask(torch.where(real, part, -1), torch.zeros_like(columns)),
            targets=targets(trees, [part]),
            predictor_index=tokens - 1,
            token_index=tokens,
            lengths=lengths(trees, [part]),
        )

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        return {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids,
            "attention_mask": batch.mask.real.long(),
        }


@pytest.fixture
def registered() -> Iterator[None]:
    LAYOUTS.register("left", PaddedOnTheLeft())
    yield
    LAYOUTS.unregister("left")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("architecture", ["llama", "bloom"])  # with explicit positions, and with those of the mask
def test_a_registered_layout_gives_the_same_numbers(architecture: str) -> None:
    model, trees = tiny_causal_model(architecture), forest()
    loaded = LoadedModel(model, None, install(model, "left"))
    assert str(loaded.acceleration).startswith("left batches (as configured)")
    found = token_log_probabilities(loaded, trees, 1.0, 64)
    for one, other in zip(found, plain_log_probabilities(model, trees), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class WithoutPositions(PaddedOnTheLeft):
    """A faulty layout: the padding shifts the positions."""

    name = "shifted"

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        inputs = super().model_inputs(batch, needs_mask)
        return inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])}


def test_a_layout_that_changes_results_is_not_used() -> None:
    LAYOUTS.register("shifted", WithoutPositions())
    try:
        found = install(tiny_causal_model("llama"), "shifted")
    finally:
        LAYOUTS.unregister("shifted")
    assert found.layout is PADDED
    assert re.search(
        "shifted and padded hidden states differ by .* configured layout shifted", str(found.layout_reason)
    )


@pytest.mark.parametrize("architecture", ["llama", "bloom"])
def test_a_registered_layout_that_needs_tree_masks_gets_tree_attention(architecture: str) -> None:
    mine = PackedLayout()
    mine.name = "mine"
    LAYOUTS.register("mine", mine)
    try:
        found = install(tiny_causal_model(architecture), "mine")
    finally:
        LAYOUTS.unregister("mine")
    assert (found.layout is mine) == found.uses(TREES) == (architecture == "llama")


@pytest.mark.usefixtures("registered")
def test_the_configuration_takes_its_name(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    fresh = FreshModel.model_validate(FRESH)
    loaded = load_policy(ModelConfig(fresh=fresh, tokenizer=str(tmp_path), layout="left"), torch.device("cpu"))
    assert loaded.layout is LAYOUTS["left"]
    assert load_recipe(str(tiny_recipe(tmp_path)), ["sft.model.layout=left"]).sft.model.layout == "left"  # type: ignore[union-attr]


def test_an_unknown_layout_is_refused_with_the_known_layouts(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match=r"sft.model.layout=paked.*auto, packed or padded"):
        load_recipe(str(tiny_recipe(tmp_path)), ["sft.model.layout=paked"])


def test_fields_mean_the_same_in_every_layout() -> None:
    """``token_index`` points at the targets, and each token sees its prompt and its own response up to itself."""
    trees = forest()
    for layout in (PACKED, PADDED, PaddedOnTheLeft()):
        for build in make_batches(trees, layout, 64, 32):
            batch = build()
            ids, positions = batch.input_ids.flatten(), batch.position_ids.flatten()
            assert torch.equal(ids[batch.token_index], batch.targets)
            number = 0
            for tree in batch.trees:
                for response in tree.responses:
                    for place, token in enumerate(response):
                        seen = _seen(batch, int(batch.token_index[number]))
                        assert ids[seen].tolist() == [*tree.prompt, *response[: place + 1]]
                        assert positions[seen].tolist() == list(range(len(tree.prompt) + place + 1))
                        before = int(batch.predictor_index[number])
                        assert ids[_seen(batch, before)].tolist() == [*tree.prompt, *response[:place]]
                        assert int(batch.targets[number]) == token
                        number += 1
            assert number == len(batch.targets)


def _seen(batch: Batch, position: int) -> Any:
    """Return the flat positions that a flat position sees."""
    length = batch.input_ids.shape[1]
    row, column = divmod(position, length)
    return batch.dense_mask()[row, 0, column].nonzero()[:, 0] + row * length
