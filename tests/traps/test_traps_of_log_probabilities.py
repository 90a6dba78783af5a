"""Traps 1 to 5: old, new and reference log-probabilities of a token must be computed in the same way.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.batching import batches
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import GenerationConfig
from plaudit.errors import PlauditError
from plaudit.models import inference
from plaudit.models.acceleration.install import install
from plaudit.models.heads import log_probabilities as head_statistics
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel
from plaudit.rollouts.engines import transformers as engine_module
from plaudit.rollouts.engines.running_batch import RunningBatch
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request
from plaudit.rollouts.sampling import choose_tokens
from tiny_models import tiny_causal_model
from tiny_runs import write_tokenizer
from trap_world import close, collected, plain_log_probabilities, plain_logits, responses_of, trainer

ROLLOUTS = ["rl.prompts_per_iteration=8", "rl.generation={max_new_tokens: 10, temperature: 1.4}"]


# 1 --------------------------------------------------------------------------------------------------------------------


def causal_mask_alone(tree_ids: Tensor, _: Tensor) -> Tensor:
    """The bug: packed trees and sibling responses see everything before them in the row."""
    rows, length = tree_ids.shape
    return torch.ones(length, length, dtype=torch.bool).tril().expand(rows, 1, length, length)


def test_trap_01_ratio_is_1_at_learning_rate_0(folder: Path, monkeypatch: Any) -> None:
    """Collection and training batch the same tokens differently, which must not change results.

    If it does, PPO clips noise from its first step. NeMo-Aligner's ratio differed from 1 before any update, because
    padding changed the logits (reported in December 2023).
    """

    def check(pack_length: int, wrong: bool = False) -> None:
        made = trainer(folder, *ROLLOUTS, "rl.optimizer.learning_rate=0", f"rl.pack_length={pack_length}")
        if wrong:  # not before: the trial at loading would notice and choose the padded layout
            monkeypatch.setattr(batches, "dense_tree_mask", causal_mask_alone)
        lines = [line for step in range(1, made.task.steps + 1) if (line := made.run_step(step))]
        assert len(lines) == 2
        for line in lines:
            assert line["ratio/max"] == pytest.approx(1.0, abs=2e-6)
            assert line["clip_fraction"] == 0.0
            assert line["approximate_kl"] < 1e-10  # k3 is a distance in both directions

    for pack_length in (16, 64, 4096):
        check(pack_length)
    with pytest.raises(AssertionError):
        check(64, wrong=True)


# 2 --------------------------------------------------------------------------------------------------------------------


Prefill = Callable[[Any], Iterator[dict[str, Any]]]


def prompts_padded_without_positions(original: Prefill) -> Prefill:
    """The bug: position ids count the padding on the left."""

    def prefill_inputs(batch: Any) -> Iterator[dict[str, Any]]:
        for inputs in original(batch):
            columns = torch.arange(inputs["input_ids"].shape[1])
            yield inputs | {"position_ids": columns.expand_as(inputs["input_ids"])}

    return prefill_inputs


def padding_is_attended(original: Prefill) -> Prefill:
    """The bug: no attention mask."""

    def prefill_inputs(batch: Any) -> Iterator[dict[str, Any]]:
        for inputs in original(batch):
            yield inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])}

    return prefill_inputs


@pytest.mark.parametrize("mutation", [prompts_padded_without_positions, padding_is_attended])
def test_trap_02_log_probabilities_do_not_depend_on_padding(mutation: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Generation, training and a single sequence give a token the same log-probability.

    Generation pads on the left, training pads on the right or packs. Without position ids, models with absolute
    positions see a shifted prompt: TRL (reported in June 2023) and OpenRLHF (until February 2024) had this bug.
    """
    write_tokenizer(tmp_path)
    from transformers import AutoTokenizer

    model, tokenizer = tiny_causal_model("gpt2"), AutoTokenizer.from_pretrained(tmp_path)
    prompts = [(5, 6, 7, 8, 9, 10, 11, 12), (13, 14), (15,), (16, 17, 18, 19)]

    def check() -> None:
        loaded = LoadedModel(model, tokenizer, install(model))
        requests = [Request(prompt, "", seed) for seed, prompt in enumerate(prompts)]
        settings = GenerationConfig(max_new_tokens=8)
        samples = TransformersEngine(loaded).generate(requests, settings)
        trees = [PromptTree(sample.prompt_ids, (sample.response_ids,)) for sample in samples]
        packed = token_log_probabilities(loaded, trees, 1.0, 4096)
        padded = token_log_probabilities(replace(loaded, acceleration=install(model, "padded")), trees, 1.0, 4096)
        for sample, in_a_pack, with_padding in zip(samples, packed, padded, strict=True):
            alone = plain_log_probabilities(model, sample.prompt_ids, sample.response_ids)
            close(in_a_pack, alone)
            close(with_padding, alone)
            close(sample.log_probabilities, alone)

    check()
    monkeypatch.setattr(RunningBatch, "prefill_inputs", mutation(RunningBatch.prefill_inputs))
    with pytest.raises(AssertionError):
        check()


# 3 --------------------------------------------------------------------------------------------------------------------


def old_ones_at_temperature_1(task: Any, monkeypatch: Any) -> None:
    """The bug: the policy is evaluated at temperature 1, regardless of the sampling temperature."""
    original = task.roles.policy
    task.roles.policy = lambda batch, temperature, extras="none": original(
        batch, temperature if torch.is_grad_enabled() else 1.0, extras
    )


def new_ones_at_temperature_1(task: Any, monkeypatch: Any) -> None:
    """The bug: the loss's log-probabilities ignore the temperature."""
    original = task.roles.policy
    task.roles.policy = lambda batch, temperature, extras="none": original(
        batch, 1.0 if torch.is_grad_enabled() else temperature, extras
    )


def reference_at_temperature_1(task: Any, monkeypatch: Any) -> None:
    """The bug: the reference's log-probabilities ignore the temperature."""
    original = task.roles.reference
    task.roles.reference = lambda batch, temperature: original(batch, 1.0)


def tempered_values(task: Any, monkeypatch: Any) -> None:
    """The bug: the output of every head is divided by the temperature, including values."""
    original = task.roles.values

    @contextmanager
    def values(batch: Any) -> Iterator[Tensor]:
        with original(batch) as found:
            yield found / task.config.generation.temperature

    task.roles.values = values


@pytest.mark.parametrize(
    "mutation", [old_ones_at_temperature_1, new_ones_at_temperature_1, reference_at_temperature_1, tempered_values]
)
def test_trap_03_one_temperature_everywhere_and_never_on_values(folder: Path, mutation: Any, monkeypatch: Any) -> None:
    """The sampling temperature applies to all three log-probabilities, but not to values.

    TRL's GRPO (until March 2025) and OpenRLHF (reported in March 2025) recomputed log-probabilities at temperature 1.
    """

    def check(wrong: Callable[[Any, Any], None] | None) -> None:
        made = trainer(folder, *ROLLOUTS, "rl.minibatches=1")
        task = made.task
        if wrong is not None:
            wrong(task, monkeypatch)
        trees = task.begin_step(1)
        policy, judge, rows = task.roles.loaded.model, task.roles.module["value"].model, task.experience.rows
        old = task.experience.old_log_probabilities
        for number, (prompt, response) in enumerate(responses_of(task)):
            expected = plain_log_probabilities(policy, prompt, response, 1.4)
            close(old[number, : len(response)], expected)
            close(rows.reference[number, : len(response)], expected)  # nothing has been learned yet
            with torch.no_grad():
                states = judge.model(torch.tensor([prompt + response])).last_hidden_state[0]
                close(rows.values[number, : len(response)], judge.score(states)[len(prompt) - 1 : -1, 0], 1e-4)
        assert task.metrics["rollout_gap"] < 1e-5
        assert made.gradients.accumulate(trees).means()["ratio/max"] == pytest.approx(1.0, abs=2e-6)

    check(None)
    with pytest.raises(AssertionError):
        check(mutation)


# 4 --------------------------------------------------------------------------------------------------------------------


def kept_share(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return the probability of all tokens that could be sampled, [rows], by sorting."""
    probabilities = logits.double().softmax(-1).sort(-1, descending=True).values
    probabilities = probabilities[:, :top_k] if top_k else probabilities
    before = (probabilities / probabilities.sum(-1, keepdim=True)).cumsum(-1).roll(1, -1)
    before[:, 0] = 0.0
    return (probabilities * (before < top_p)).sum(-1)


@pytest.mark.parametrize("cut", ["{top_k: 4}", "{top_p: 0.6}", "{top_k: 9, top_p: 0.8}"])
def test_trap_04_top_p_and_top_k_are_renormalized_in_the_ratio(folder: Path, cut: str, monkeypatch: Any) -> None:
    """Top-p and top-k renormalize the remaining tokens, so the sampling probability is larger than the policy's.

    NeMo-Aligner's PPO ignored the settings in its log-probabilities (reported in December 2023).
    """
    options = [f"rl.generation={cut[:-1]}, max_new_tokens: 10}}", "rl.importance_correction=2.0"]

    def check() -> None:
        task = collected(folder, *options)
        settings, policy = task.config.generation, task.roles.loaded.model
        for number, (prompt, response) in enumerate(responses_of(task)):
            share = kept_share(plain_logits(policy, prompt, response), settings.top_k, settings.top_p)
            assert share.max() < 0.999
            close(task.experience.rows.importance[number, : len(response)], share, 1e-4)

    check()
    with pytest.raises(PlauditError, match="set importance_correction"):
        trainer(folder, options[0])

    def without_renormalizing(*arguments: Any) -> Any:
        choice = choose_tokens(*arguments)
        return choice._replace(log_kept_mass=torch.zeros_like(choice.log_kept_mass))

    monkeypatch.setattr(engine_module, "choose_tokens", without_renormalizing)
    with pytest.raises(AssertionError):
        check()


# 5 --------------------------------------------------------------------------------------------------------------------


def of_the_likeliest_token(logits: Tensor, _: Tensor, temperature: float) -> Tensor:
    """The bug: the maximum over the vocabulary instead of the sampled token's entry."""
    return (logits / temperature).log_softmax(-1).amax(-1)


def of_the_position_itself(*arguments: Any) -> Any:
    """The bug: logits are read at a token's own position, where they predict the next one."""
    for build in batches.make_batches(*arguments):
        yield lambda build=build: replace(built := build(), predictor_index=built.token_index)


@pytest.mark.parametrize(
    "module, name, mutation",
    [
        (head_statistics, "token_log_probabilities", of_the_likeliest_token),
        (inference, "make_batches", of_the_position_itself),
    ],
)
def test_trap_05_log_probability_is_the_sampled_tokens(
    folder: Path, module: Any, name: str, mutation: Any, monkeypatch: Any
) -> None:
    """Logits at position t predict token t + 1, and the ratio belongs to the sampled token.

    Reading another position, or the most likely token, leaves finite losses and plausible curves; the ratio is still 1
    if all three forward passes have the bug.
    """

    def check() -> None:
        task = collected(folder, *ROLLOUTS)
        for number, (prompt, response) in enumerate(responses_of(task)):
            expected = plain_log_probabilities(task.roles.loaded.model, prompt, response, 1.4)
            close(task.experience.old_log_probabilities[number, : len(response)], expected)

    check()
    monkeypatch.setattr(module, name, mutation)
    with pytest.raises(AssertionError):
        check()
