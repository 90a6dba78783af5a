"""Traps 9 to 11: where a response ends, and how the token that ends it is treated.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from plaudit.algorithms.rewards import token_rewards
from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig, GenerationConfig, SourceConfig
from plaudit.data import tokenization
from plaudit.data.limits import Limits
from plaudit.data.rows import Origin, ResponseRow
from plaudit.rollouts.engines import finishing
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request
from plaudit.rollouts.texts import cut_at_stop
from plaudit.training import accumulation
from plaudit.training.rl import iteration
from trap_world import EOS, close, collected, responses_of, step_gradients, trainer

ROLLOUTS = ["rl.prompts_per_iteration=8", "rl.generation={max_new_tokens: 10, temperature: 1.4}"]


# 9 --------------------------------------------------------------------------------------------------------------------


def in_the_last_column(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """The bug: the score goes to the end of the padded row."""
    rewards = -coefficient * kl * mask
    rewards[:, -1] += scores
    return rewards


def in_front_of_eos(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """The bug: EOS is taken for padding, so the score goes to the token before."""
    return token_rewards(scores, kl, mask & (mask.long().flip(1).cumsum(1).flip(1) > 1), coefficient)


def read_in_front_of_the_end(monkeypatch: Any) -> None:
    """The bug: the reward model is read one token early."""
    monkeypatch.setattr(Batch, "last_token_index", property(lambda batch: batch.token_index[_ends(batch)] - 1))


def _ends(batch: Batch) -> Tensor:
    return batch.lengths.cumsum(0) - 1


@pytest.mark.parametrize(
    "mutation",
    [
        lambda monkeypatch: monkeypatch.setattr(iteration, "token_rewards", in_the_last_column),
        lambda monkeypatch: monkeypatch.setattr(iteration, "token_rewards", in_front_of_eos),
        read_in_front_of_the_end,
    ],
    ids=["last column", "before EOS", "read early"],
)
def test_trap_09_the_score_lands_on_the_last_real_token(folder: Path, mutation: Any, monkeypatch: Any) -> None:
    """The score is read and added at the last token, including EOS; otherwise ending a response is never rewarded.

    TRL's PPO read scores at the wrong token when prompts were padded on the left (reported in February 2025).
    """
    # With gamma 0 and no baseline, an advantage is the token's own reward.
    options = ["rl.advantages=reinforce++", "rl.whiten_advantages=false", "rl.gamma=0", "rl.kl={coefficient: 0}"]

    judge = AutoModelForSequenceClassification.from_pretrained(folder / "judge").eval()

    def check() -> None:
        task = collected(folder, *ROLLOUTS, *options)
        rows = task.experience.rows
        ended = [response[-1] == EOS for _, response in responses_of(task)]
        assert {True, False} == set(ended)
        for number, (prompt, response) in enumerate(responses_of(task)):
            with torch.no_grad():
                score = judge.score(judge.model(torch.tensor([prompt + response])).last_hidden_state)[0, -1, 0]
            expected = torch.zeros(rows.advantages.shape[1])
            expected[len(response) - 1] = score
            close(rows.advantages[number], expected, 1e-4)

    check()
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check()


# 10 -------------------------------------------------------------------------------------------------------------------


def masked_by_token_id(trees: Any, *others: Any) -> Any:
    """The bug: every token with the padding token's id is taken for padding and not trained on."""
    yield from make_batches([replace(tree, responses=_without_padding(tree)) for tree in trees], *others)


def _without_padding(tree: PromptTree) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(token for token in response if token != EOS) for response in tree.responses)


def test_trap_10_padding_with_eos_does_not_erase_eos(folder: Path, monkeypatch: Any) -> None:
    """If padding and EOS share an id, a mask by id removes every EOS, and the model never learns to stop.

    transformers' DataCollatorForLanguageModeling masks labels in this way, as did many fine-tuning scripts and TRL's
    DataCollatorForCompletionOnlyLM (reported in November 2023).
    """
    own = trainer(folder, "sft.model={pad_token: <pad>, path: " + str(folder / "policy") + "}", stage="sft")
    gradients, numbers = step_gradients(own, own.task.begin_step(1))

    def check_sft() -> None:
        same = trainer(folder, "sft.model={pad_token: <eos>, path: " + str(folder / "policy") + "}", stage="sft")
        assert same.task.loaded.tokenizer.pad_token_id == same.task.loaded.tokenizer.eos_token_id == EOS
        examples = same.task.begin_step(1)
        assert all(response[-1] == EOS for example in examples for response in example.tree.responses)
        found, again = step_gradients(same, examples)
        assert again["loss"] == pytest.approx(numbers["loss"], abs=1e-6)
        for name, gradient in gradients.items():
            close(found[name], gradient)

    def check_rollouts() -> None:
        task = collected(folder, *ROLLOUTS, "rl.model={pad_token: <eos>, path: " + str(folder / "policy") + "}")
        ends = [response[-1] for _, response in responses_of(task)]
        assert 0 < ends.count(EOS) < len(ends)
        assert task.metrics["ended_fraction"] == ends.count(EOS) / len(ends)
        assert task.metrics["rollout_gap"] < 1e-5

    check_sft()
    check_rollouts()
    monkeypatch.setattr(accumulation, "make_batches", masked_by_token_id)
    with pytest.raises(AssertionError):
        check_sft()


# 11 -------------------------------------------------------------------------------------------------------------------


def trimmed_samples(monkeypatch: Any) -> None:
    """The bug: a finished response loses its last token."""
    original = TransformersEngine._sample

    def sample(engine: Any, request: Any, response: list[int], *others: Any) -> Any:
        return original(engine, request, response[:-1] if response[-1] == EOS else response, *others)

    monkeypatch.setattr(TransformersEngine, "_sample", sample)


def cut_before_the_stop(monkeypatch: Any) -> None:
    """The bug: the tokens of the stop string are removed with its text."""

    def cut(*arguments: Any) -> tuple[int, str] | None:
        found = cut_at_stop(*arguments)
        return found if found is None else (max(found[0] - 1, 1), found[1])

    monkeypatch.setattr(finishing, "cut_at_stop", cut)


def eos_behind_every_cut(monkeypatch: Any) -> None:
    """The bug: EOS is appended to a response that was cut at the length limit."""
    original = Limits.cut

    def truncated(limits: Limits, row: Any, tokenizer: Any) -> Any:
        cut: Any = original(limits, row, tokenizer)
        responses = tuple((*response[:-1], EOS) for response in cut.tree.responses)
        return replace(cut, tree=PromptTree(cut.tree.prompt, responses))

    monkeypatch.setattr(Limits, "cut", truncated)


@pytest.mark.parametrize("mutation", [trimmed_samples, cut_before_the_stop, eos_behind_every_cut])
def test_trap_11_trimming_keeps_eos_and_adds_none(folder: Path, mutation: Any, monkeypatch: Any) -> None:
    """EOS belongs to a response that ended by itself and to no other.

    Kept: EOS; all tokens up to the end of a stop string, since they were sampled. Cut: the stop string's text, what
    comes after it, and what exceeds the limit. A policy whose EOS is trimmed is never rewarded for stopping.
    """
    loaded = trainer(folder).task.roles.loaded
    requests = [Request((5, 6, 7), "w1 w2 w3", seed) for seed in range(60)]
    free = GenerationConfig(max_new_tokens=10, temperature=1.4)

    def check_rollouts() -> None:
        engine = TransformersEngine(loaded)
        whole = engine.generate(requests, free)
        assert {sample.ended for sample in whole} == {True, False}
        for sample in whole:
            assert sample.ended == (sample.response_ids[-1] == EOS)
            assert sample.ended or len(sample.response_ids) == 10
            assert EOS not in sample.response_ids[:-1]
        stopped = 0
        for before, after in zip(
            whole, engine.generate(requests, free.model_copy(update={"stop": ["w9"]})), strict=True
        ):
            words = before.response_text.split()
            if "w9" not in words:
                assert after == before
                continue
            stopped += 1
            tokens = [token for token in before.response_ids if 3 < token < 30]
            assert after.ended
            assert after.response_ids[-1] == tokens[words.index("w9")]
            assert after.response_ids == before.response_ids[: len(after.response_ids)]
            assert after.response_text.split() == words[: words.index("w9")]
        assert stopped > 3

    def check_rows() -> None:
        rows = [ResponseRow("w1 w2", " ".join(["w5"] * length), Origin("file", 1)) for length in (2, 3, 4, 9)]
        config = DataConfig(sources=[SourceConfig(path="file")], max_response_tokens=4, overlong="truncate")
        trees = tokenization.tokenize_rows(rows, loaded.tokenizer, config, 64).trees
        ends = [(len(tree.responses[0]), tree.responses[0][-1] == EOS) for tree in trees]
        assert ends == [(3, True), (4, True), (4, False), (4, False)]

    check_rollouts()
    check_rows()
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check_rows() if mutation is eos_behind_every_cut else check_rollouts()


def test_trap_11_a_truncated_response_has_not_ended(folder: Path) -> None:
    """``missing_eos_penalty`` applies to the responses without EOS, and to no others."""
    plain = collected(folder, *ROLLOUTS)
    fined = collected(folder, *ROLLOUTS, "rl.missing_eos_penalty=3.0")
    cut = torch.tensor([response[-1] != EOS for _, response in responses_of(plain)])
    assert 0 < int(cut.sum()) < len(cut)
    close(plain.experience.rows.scores - fined.experience.rows.scores, 3.0 * cut)
