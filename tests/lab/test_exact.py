"""The laboratory's exact numbers: against brute force, hand-computed values and independent sampling."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from plaudit.config.schema import GenerationConfig, ModelConfig
from plaudit.lab import targets
from plaudit.lab.exact import Exact, best_of_n, enumerate_policy, kl
from plaudit.lab.problem import (
    END_ID,
    LETTERS,
    MAX_TOKENS,
    PROMPTS,
    Problem,
    complete_trees,
    make_tokenizer,
    prompt_ids,
    responses,
    table_reward,
    text_of,
)
from plaudit.lab.reference import write_reference
from plaudit.models.loading.models import load_policy
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(Problem(0), tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def reference(place: Path) -> Tensor:
    return enumerate_policy(AutoModelForCausalLM.from_pretrained(place))


@pytest.fixture(scope="module")
def exact(reference: Tensor) -> Exact:
    return Exact(reference, Problem(0).rewards, Problem(0).beta)


def random_policy(like: Tensor, seed: int) -> Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
    return (like + noise).log_softmax(-1)


def test_every_response_is_listed_once() -> None:
    found = list(responses())
    letters = len(LETTERS)
    assert len(found) == len(set(found)) == sum(letters**length for length in range(MAX_TOKENS + 1))
    for response in found:
        assert END_ID not in response[:-1]
        assert (response[-1] == END_ID) or len(response) == MAX_TOKENS


def test_text_and_tokens_determine_each_other() -> None:
    tokenizer = make_tokenizer()
    for prompt in PROMPTS:
        assert tuple(tokenizer(prompt)["input_ids"]) == prompt_ids(prompt)
    texts = [text_of(response) for response in responses()]
    assert len(set(texts)) == len(texts)
    assert texts == [tokenizer.decode(response, skip_special_tokens=True) for response in responses()]


def test_the_reward_source_reads_the_table() -> None:
    problem, everything = Problem(3), [text_of(response) for response in responses()]
    for row, prompt in enumerate(PROMPTS):
        scores = table_reward([prompt] * len(everything), everything, [{"problem": 3}] * len(everything))
        assert scores == problem.rewards[row].tolist()


def test_probabilities_add_up_to_one_and_agree_with_the_chain_rule(place: Path, reference: Tensor) -> None:
    torch.testing.assert_close(reference.exp().sum(1), torch.ones(len(PROMPTS), dtype=torch.float64))
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    for row, tree in enumerate(complete_trees()):
        for column, response in enumerate(tree.responses):
            total, context = 0.0, list(tree.prompt)
            for token in response:
                with torch.no_grad():
                    logits = model(torch.tensor([context])).logits[0, -1].double()
                total += float(logits[token]) - math.log(sum(math.exp(value) for value in logits.tolist()))
                context.append(token)
            assert float(reference[row, column]) == pytest.approx(total, abs=1e-5)


def test_the_engine_samples_with_these_probabilities(place: Path, reference: Tensor) -> None:
    count = 4000
    engine = TransformersEngine(load_policy(ModelConfig(path=str(place)), torch.device("cpu")))
    requests = [Request(prompt_ids(prompt), prompt, seed) for prompt in PROMPTS for seed in range(count)]
    samples = engine.generate(requests, GenerationConfig(max_new_tokens=MAX_TOKENS, batch_size=count))
    numbers = {response: number for number, response in enumerate(responses())}
    for row, probabilities in enumerate(reference.exp()):
        own = samples[row * count : (row + 1) * count]
        found = torch.bincount(torch.tensor([numbers[sample.response_ids] for sample in own]), minlength=len(numbers))
        error = (probabilities * (1 - probabilities) / count).sqrt()
        assert ((found / count - probabilities).abs() < 4.5 * error).all()


def test_responses_end_at_every_position(reference: Tensor) -> None:
    lengths = torch.tensor([len(response) for response in responses()])
    for length in range(1, MAX_TOKENS + 1):
        assert (reference.exp()[:, lengths == length].sum(1) > 0.05).all()


def test_the_optimum_has_the_best_value_and_no_policy_has_more(exact: Exact) -> None:
    best = exact.best_value()
    assert exact.value(exact.optimum()) == pytest.approx(best, abs=1e-12)
    assert exact.regret(exact.optimum()) == pytest.approx(0.0, abs=1e-12)
    assert exact.regret(exact.reference) == pytest.approx(1.0)
    for seed in range(20):
        policy = random_policy(exact.optimum(), seed)
        assert exact.value(policy) < best
        # The regret is the KL to the optimum, in units of the reference's.
        share = kl(policy, exact.optimum()) / kl(exact.reference, exact.optimum())
        assert exact.regret(policy) == pytest.approx(share, rel=1e-9)


def test_values_by_hand() -> None:
    half, reward = math.log(0.5), [1.0, 0.0]
    exact = Exact(torch.tensor([[half, half]]).double(), torch.tensor([reward]).double(), beta=2.0)
    assert exact.best_value() == pytest.approx(2 * math.log((math.exp(0.5) + 1) / 2))
    policy = torch.tensor([[0.8, 0.2]]).double().log()
    divergence = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert kl(policy, exact.reference) == pytest.approx(divergence)
    assert exact.value(policy) == pytest.approx(0.8 - 2 * divergence)


def test_best_of_n_by_counting_all_draws() -> None:
    """Four responses, two of them tied: every draw of three, one by one."""
    probabilities, rewards = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 2.0, 0.0]
    expected = [0.0] * 4
    for draw in [(i, j, k) for i in range(4) for j in range(4) for k in range(4)]:
        best = max(draw, key=lambda number: rewards[number])  # of equal ones the first, as when sampling
        expected[best] += math.prod(probabilities[number] for number in draw)
    found = best_of_n(torch.tensor([probabilities]).double().log(), torch.tensor([rewards]).double(), 3).exp()
    torch.testing.assert_close(found[0], torch.tensor(expected).double())


def test_best_of_n_stays_under_its_bound(exact: Exact) -> None:
    for n in (1, 2, 4, 16):
        divergence = kl(best_of_n(exact.reference, exact.rewards, n), exact.reference)
        assert -1e-12 <= divergence <= math.log(n) - (n - 1) / n + 1e-12


def test_ipo_has_its_closed_form(exact: Exact) -> None:
    def loss(policy: Tensor, exact: Exact) -> Tensor:
        return (targets.gaps(policy - exact.reference) - 1 / (2 * 0.5)).square()

    torch.testing.assert_close(targets.ipo(exact, 0.5), targets.minimum(loss, exact), atol=1e-6, rtol=1e-6)


def test_dpo_without_smoothing_has_its_minimum_at_the_optimum(exact: Exact) -> None:
    found = targets.minimum(targets.cdpo_loss(0.0), exact)
    torch.testing.assert_close(found, exact.optimum(), atol=1e-6, rtol=1e-6)
    assert kl(targets.minimum(targets.cdpo_loss(0.1), exact), exact.optimum()) > 1e-3


def test_a_reward_divided_by_its_own_spread_has_a_fixed_point_or_none(reference: Tensor) -> None:
    """At the fixed point the gradient of the reward over its deviation equals beta times the KL's."""
    exact = Exact(reference, Problem(0).rewards, beta=2.0)
    found = targets.divided_reward(exact)
    assert found is not None
    logits = found.clone().requires_grad_(True)
    policy = logits.log_softmax(-1)
    rewards = (policy.exp() * exact.rewards).sum(-1)
    deviations = ((policy.exp() * exact.rewards.square()).sum(-1) - rewards.square()).sqrt()
    penalty = (policy.exp() * (policy - reference)).sum(-1)
    (gradient,) = torch.autograd.grad((rewards / deviations.detach() - exact.beta * penalty).sum(), logits)
    assert gradient.abs().max() < 1e-6
    # If the KL costs little, r / s of two responses exceeds any bound: the policy collapses to one of them.
    half = torch.tensor([[0.5, 0.5]]).double().log()
    assert targets.divided_reward(Exact(half, torch.tensor([[1.0, -1.0]]).double(), beta=0.5)) is None
