"""Tokens that are read but not learned affect no loss, gradient, reward, value or length, in any stage."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from forests import PACKABLE, forest, in_tree_order
from plaudit.batching.batches import make_batches
from plaudit.batching.layouts.base import Layout
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.trees import Example, PromptTree, Segment
from plaudit.data.tokenization import Tokenized, within_limits
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ScoreModule, ValueModule
from plaudit.rewards.grouping import samples_to_trees
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Sample
from plaudit.training import examples as examples_module
from plaudit.training.preference_examples import Preference, WithMismatched
from plaudit.training.rl.experience import Experience
from tiny_models import tiny_causal_model, tiny_classifier
from trap_world import close, perturb, prepared, step_gradients, trainer

LAYOUTS: dict[str, Layout] = {"packed": PACKED, "padded": PADDED}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a stage starts from."""
    return prepared(tmp_path_factory.mktemp("segments"))


def masked(tree: PromptTree, seed: int = 0) -> PromptTree:
    """The tree with about half of each response's tokens not learned."""
    generator = random.Random(seed)
    flags = []
    for response in tree.responses:
        own = [generator.random() < 0.5 for _ in response]
        own[generator.randrange(len(own))] = True
        flags.append(tuple(own))
    return replace(tree, learned=tuple(flags))


def learned_log_probabilities(model: Any, tree: PromptTree, temperature: float = 1.0) -> list[Tensor]:
    """The log-probabilities of each response's learned tokens, one unpadded sequence at a time."""
    found = []
    for number, response in enumerate(tree.responses):
        logits = model(torch.tensor([tree.prompt + response])).logits[0, len(tree.prompt) - 1 : -1]
        each = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        found.append(each[torch.tensor(tree.flags(number))])
    return found


def gradients_equal(found: dict[str, Tensor], model: Any, prefix: str) -> None:
    parameters = dict(model.named_parameters())
    largest = max(float(parameter.grad.abs().max()) for parameter in parameters.values() if parameter.grad is not None)
    assert largest > 1e-3
    for name, gradient in found.items():
        expected = parameters[name.removeprefix(prefix)].grad
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=3e-6 * largest, msg=name)


# Trees and batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", PACKABLE)
def test_log_probabilities_of_learned_tokens_equal_plain_transformers(architecture: str, layout: str) -> None:
    trees = [masked(tree, seed) for seed, tree in enumerate(forest())]
    policy, scorer = (make(architecture, dtype=torch.float64) for make in (tiny_causal_model, tiny_classifier))
    log_probabilities: dict[int, list[Tensor]] = {}
    values: dict[int, list[Tensor]] = {}
    scores: dict[int, Tensor] = {}
    with torch.no_grad():
        for build in make_batches(trees, LAYOUTS[layout], 64, 32):
            batch = build()
            counts = [len(tree.responses) for tree in batch.trees]
            for into, flat in (
                (log_probabilities, PolicyModule(policy)(batch).statistics.log_probabilities),
                (values, ValueModule(scorer)(batch)),
            ):
                parts = iter(flat.double().split(batch.lengths.tolist()))
                into.update(
                    {i: [next(parts) for _ in range(n)] for i, n in zip(batch.tree_indices, counts, strict=True)}
                )
            scores.update(zip(batch.tree_indices, ScoreModule(scorer)(batch).double().split(counts), strict=True))
        for index, tree in enumerate(trees):
            for found, expected in zip(log_probabilities[index], learned_log_probabilities(policy, tree), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            for number, response in enumerate(tree.responses):
                states = scorer.base_model(torch.tensor([tree.prompt + response])).last_hidden_state[0]
                each = scorer.score(states)[:, 0]
                before = each[len(tree.prompt) - 1 : -1][torch.tensor(tree.flags(number))]
                torch.testing.assert_close(values[index][number], before, rtol=1e-5, atol=1e-5)
                # The score belongs to the whole response: it is read at its last token, learned or not.
                torch.testing.assert_close(scores[index][number], each[-1], rtol=1e-5, atol=1e-5)


def test_all_learned_is_the_same_batch() -> None:
    trees = forest()
    for layout in LAYOUTS.values():
        batch = layout.build(trees, layout.split(trees, 10**4, 10**4)[0])
        assert batch.learned_only() is batch


def test_tokens_after_the_last_learned_one_change_no_bit() -> None:
    model = tiny_causal_model("llama")
    found = []
    for tail in ((20, 21), (22, 23)):
        tree = PromptTree.of_segments((4, 5), [[Segment((6, 7)), Segment(tail, learned=False)], [Segment((8, 9))]])
        for layout in LAYOUTS.values():
            (build,) = make_batches([tree], layout, 100, 100)
            found.append(torch.cat(in_tree_order(build(), PolicyModule(model)(build()).statistics.log_probabilities)))
    assert all(torch.equal(one, other) for one, other in zip(found[:2], found[2:], strict=True))
    assert [len(one) for one in found] == [4] * 4


# Supervised stages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def masking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every tree that a stage loads tokens that are not learned."""
    original = within_limits

    def tokenized(*arguments: Any) -> Tokenized[Any]:
        done = original(*arguments)
        rows = [replace(row, tree=masked(row.tree, seed)) for seed, row in enumerate(done.rows)]
        return replace(done, rows=rows)

    monkeypatch.setattr(examples_module, "within_limits", tokenized)


@pytest.mark.usefixtures("masking")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sft_trains_only_on_the_learned_tokens(folder: Path, layout: str) -> None:
    start = f"sft.model={{path: {folder / 'policy'}, layout: {layout}}}"
    made = trainer(folder, start, "sft.token_budget=40", stage="sft")
    trees = [example.tree for example in made.task.begin_step(1)]
    assert any(not all(tree.flags(0)) for tree in trees)
    found, numbers = step_gradients(made, made.task.begin_step(1))
    model = made.task.loaded.model
    each = torch.cat([learned_log_probabilities(model, tree)[0] for tree in trees])
    (-each.mean()).backward()
    assert numbers["loss"] == pytest.approx(-float(each.mean().detach()), rel=1e-5)
    assert numbers["tokens"] == len(each)
    gradients_equal(found, model, "model.")


@pytest.mark.usefixtures("masking")
@pytest.mark.parametrize("loss", ["dpo", "simpo"])
def test_dpo_compares_only_the_learned_tokens(folder: Path, loss: str) -> None:
    made = trainer(folder, f"dpo.loss={loss}", "dpo.token_budget=64", "dpo.pack_length=40", stage="dpo")
    model = made.task.loaded.model
    examples = made.task.begin_step(1)
    with torch.no_grad():
        reference = [[float(part.sum()) for part in learned_log_probabilities(model, e.tree)] for e in examples]
    perturb(model)
    found, numbers = step_gradients(made, examples)
    losses = []
    for example, before in zip(examples, reference, strict=True):
        parts, ranks = learned_log_probabilities(model, example.tree), example.target.ranks
        if loss == "dpo":
            close(example.target.reference, before)
            reward = [0.1 * (part.sum() - old) for part, old in zip(parts, before, strict=True)]
        else:  # SimPO: the mean over a response's tokens, a margin of one
            reward = [2 * part.mean() for part in parts]
        margin = 0 if loss == "dpo" else 1
        pairs = [(b, w) for b in range(len(ranks)) for w in range(len(ranks)) if ranks[b] < ranks[w]]
        losses.append(torch.stack([-logsigmoid(reward[b] - reward[w] - margin) for b, w in pairs]).mean())
    expected = torch.stack(losses).mean()
    expected.backward()
    assert numbers["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    gradients_equal(found, model, "policy.model.")


def test_a_reward_model_reads_the_last_token_whatever_is_learned(folder: Path) -> None:
    made = trainer(folder, f"reward.model={folder / 'judge'}", stage="reward")
    examples = made.task.train[:9]
    others = [replace(example, tree=masked(example.tree, seed)) for seed, example in enumerate(examples)]
    assert torch.equal(made.task.raw_scores(examples), made.task.raw_scores(others))
    made.task.units = len(examples)
    same = step_gradients(made, examples), step_gradients(made, others)
    assert all(torch.equal(same[0][0][name], gradient) for name, gradient in same[1][0].items())


def test_mismatched_responses_keep_their_flags() -> None:
    trees = [PromptTree((4,), ((5, 6, 1),), learned=((True, False, True),)), PromptTree((7,), ((8, 1),))]
    first, second = WithMismatched([Example(tree, Preference((0,))) for tree in trees], 64, seed=0)
    assert first.target.mismatched is not None
    assert second.target.mismatched is not None
    assert first.target.mismatched.tree == PromptTree((4,), ((8, 1),))
    assert second.target.mismatched.tree == PromptTree((7,), ((5, 6, 1),), learned=((True, False, True),))


# Reinforcement learning -----------------------------------------------------------------------------------------------

FUNCTION = "rl.rewards=[{name: words, kind: function, function: 'segment_rewards:first_word'}]"
SETTINGS = ["rl.prompts_per_iteration=6", "rl.minibatches=1", "rl.generation={max_new_tokens: 6, temperature: 1.2}"]


def with_segments(monkeypatch: Any, change: Callable[[Sample], Sample]) -> None:
    """Make the engine return responses of several segments, as an environment would."""
    original = TransformersEngine.generate
    monkeypatch.setattr(
        TransformersEngine, "generate", lambda *arguments: [change(sample) for sample in original(*arguments)]
    )


def result_behind(*tokens: int) -> Callable[[Sample], Sample]:
    """A tool's result after the last token that the policy chose."""

    def change(sample: Sample) -> Sample:
        flags = (True,) * len(sample.response_ids) + (False,) * len(tokens)
        return replace(sample, response_ids=sample.response_ids + tokens, learned=flags)

    return change


def result_after_the_first_token(sample: Sample) -> Sample:
    """A tool's result in the middle."""
    first, rest = sample.response_ids[:1], sample.response_ids[1:]
    return replace(
        sample, response_ids=(*first, 9, 10, 11, *rest), learned=(True, False, False, False, *[True] * len(rest))
    )


def test_a_tool_result_at_the_end_changes_nothing_in_rl(folder: Path, monkeypatch: Any) -> None:
    steps, experiences = [], []
    for tokens in ((), (9, 10), (11, 12)):
        with monkeypatch.context() as patch:
            with_segments(patch, result_behind(*tokens))
            made = trainer(folder, FUNCTION, *SETTINGS, "rl.kl.placement=loss", "rl.entropy_coefficient=0.01")
            examples = made.task.begin_step(1)
            perturb(made.task.module, 0.02)
            steps.append(step_gradients(made, examples))
            experiences.append(made.task.experience)
    for experience, (gradients, numbers) in zip(experiences[1:], steps[1:], strict=True):
        assert torch.equal(experience.lengths, experiences[0].lengths)
        for name, tensor in vars(experience.rows).items():
            close(tensor, vars(experiences[0].rows)[name])
        assert numbers == pytest.approx(steps[0][1], rel=1e-4, abs=1e-6)
        for name, gradient in gradients.items():
            close(gradient, steps[0][0][name])


def test_rl_learns_from_the_tokens_that_the_policy_chose(folder: Path, monkeypatch: Any) -> None:
    with_segments(monkeypatch, result_after_the_first_token)
    made = trainer(folder, FUNCTION, *SETTINGS, "rl.epochs=2", "rl.kl.coefficient=0", "rl.kl.target=null")
    task = made.task
    examples = task.begin_step(1)
    model, rows = task.roles.loaded.model, task.experience.rows
    trees = [example.tree for example in examples]
    assert all(tree.learned is not None and not all(tree.learned[0]) for tree in trees)
    at = made.task.config.generation.temperature
    with torch.no_grad():
        before = [learned_log_probabilities(model, tree, at)[0] for tree in trees]
    perturb(model, 0.02)
    found, numbers = step_gradients(made, examples)
    terms, tokens = [], 0
    for tree, old in zip(trees, before, strict=True):
        (place,) = [n for n, other in enumerate(task.experience.trees) if other == tree]
        (new,) = learned_log_probabilities(model, tree, at)
        length = len(new)
        assert length == tree.lengths[0] == int(task.experience.lengths[place])
        close(task.experience.old_log_probabilities[place, :length], old)
        advantages = rows.advantages[place, :length]
        ratio = (new - old).exp()
        clip = made.task.config.clip or 0.2
        terms.append(torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).sum())
        tokens += length
    expected = -torch.stack(terms).sum() / tokens
    expected.backward()
    assert numbers["policy_loss"] == pytest.approx(float(expected.detach()), abs=1e-5)
    policy = {name: gradient for name, gradient in found.items() if name.startswith("policy.")}
    gradients_equal(policy, model, "policy.model.")
    again = Experience.from_tensors(task.experience.to_tensors())
    assert [(tree.responses, tree.learned) for tree in again.trees] == [
        (tree.responses, tree.learned) for tree in task.experience.trees
    ]


def test_samples_become_trees_with_their_flags() -> None:
    samples = [Sample((4,), (5, 1), "", "", True), Sample((4,), (6, 7, 1), "", "", True, learned=(True, False, True))]
    assert samples_to_trees(samples, 4) == [
        PromptTree((4,), ((5, 1), (6, 7, 1)), learned=((True, True), (True, False, True)))
    ]
    assert [sample.length for sample in samples] == [2, 2]
