"""The counts that determine speed stay within their bounds."""

from pathlib import Path
from typing import Any

import guard
import pytest
import torch

from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration.install import install
from plaudit.models.heads import log_probabilities
from plaudit.rollouts.engines import transformers as engine
from plaudit.rollouts.samples import Request
from plaudit.runner import run
from plaudit.training.loop import Trainer
from rl_runs import load_fitting
from tiny_models import SIZES, VOCABULARY, tiny_causal_model
from tiny_runs import tiny_recipe

PACKING_MARGIN = 1.08  # rows that first-fit decreasing leaves partly empty, with lengths like those of dialogues
HEAD_BYTES = 4


class Loaded:
    """A tiny model and the parts of a tokenizer that generation needs."""

    class Tokenizer:
        """Knows an end token, and decodes nothing."""

        eos_token_id = 1

        def decode(self, ids: Any, **_: Any) -> str:
            return ""

    def __init__(self) -> None:
        self.model = tiny_causal_model("llama")
        self.tokenizer = self.Tokenizer()
        self.device = torch.device("cpu")
        self.acceleration = install(self.model, generates=True)


@pytest.fixture(autouse=True)
def room_for_dialogues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny model take dialogues."""
    monkeypatch.setitem(SIZES, "llama", SIZES["llama"] | {"max_position_embeddings": 512})


def test_positions_are_those_of_the_packing_s_optimum() -> None:
    trees = guard.dialogue_trees(64, VOCABULARY)
    counts = guard.training_step(tiny_causal_model("llama"), trees, 8192, 512)
    needed = sum(tree.positions for tree in trees)
    assert needed <= counts.positions <= PACKING_MARGIN * needed
    assert counts.positions < 0.5 * guard.padded_positions(trees, 16)


def test_the_head_computes_only_response_tokens_and_never_all_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = 32
    monkeypatch.setattr(log_probabilities, "SMALLEST_CHUNK", rows)
    monkeypatch.setattr(log_probabilities, "LOGIT_BYTES", 1)
    trees = guard.dialogue_trees(12, VOCABULARY)
    model = tiny_causal_model("llama")
    counts = guard.training_step(model, trees, 8192, 512)
    tokens = sum(tree.response_tokens for tree in trees)
    assert counts.head_rows == 2 * tokens  # once forward, once to recompute the chunks
    widest = model.config.intermediate_size * HEAD_BYTES * counts.positions
    mask = HEAD_BYTES * 512 * counts.positions  # a number for each pair of positions of a row
    assert counts.largest_array <= max(widest, mask, rows * VOCABULARY * HEAD_BYTES)


def test_every_distinct_prompt_is_computed_once() -> None:
    prompts = [(5, 6, 7), (8, 9), (5, 6, 7, 8, 9)]
    requests = [Request(prompt, "", seed) for seed in range(8) for prompt in prompts]
    settings = GenerationConfig(max_new_tokens=10, min_new_tokens=10)
    counts = guard.sampling(Loaded(), requests, settings)
    assert counts.shapes[0] == (3, 5)
    assert counts.shapes[1:] == [(24, 1)] * 9
    assert counts.head_rows == 3 + 9 * 24


def test_the_sampler_waits_for_the_device_once_in_eight_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "check_interval", lambda device: engine.STOP_CHECK_INTERVAL)
    requests = [Request((5, 6, 7), "", seed) for seed in range(4)]
    waits = [
        guard.sampling(Loaded(), requests, GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens)).waits
        for tokens in (16, 48)
    ]
    assert waits[1] - waits[0] == (48 - 16) // engine.STOP_CHECK_INTERVAL


GRPO = ["rl.epochs=1", "rl.minibatches=1", "rl.advantages=grpo", "rl.responses_per_prompt=2", "rl.kl.placement=loss"]


@pytest.mark.parametrize(
    "options, before, per_step",
    [([], 4, 2), (GRPO, 2, 1)],
    ids=["policy, reference, value, reward; policy, value", "reference, reward; policy"],
)
def test_an_iteration_makes_no_unnecessary_pass(
    options: list[str], before: int, per_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PPO runs every model once to collect; a single step of GRPO runs only the reference."""
    from transformers.models.llama.modeling_llama import LlamaModel

    passes: list[tuple[int, int]] = []
    original = LlamaModel.forward

    def forward(self: Any, input_ids: Any, **options: Any) -> Any:
        if options.get("use_cache") is False:
            passes.append(tuple(input_ids.shape))
        return original(self, input_ids=input_ids, **options)

    recipe = load_fitting(tiny_recipe(tmp_path), ["rl.iterations=1", "rl.held_out_prompts=0", *options])
    run(recipe, ["pretrain", "sft", "reward"])
    train = Trainer.train

    def counted_train(self: Any) -> Any:  # the trials of loading do not count
        monkeypatch.setattr(LlamaModel, "forward", forward)
        return train(self)

    monkeypatch.setattr(Trainer, "train", counted_train)
    run(recipe, ["rl"])
    assert recipe.rl is not None
    of_saving = 2  # the trained model and the saved one are compared
    assert len(passes) == of_saving + before + per_step * recipe.rl.epochs * recipe.rl.minibatches
