"""Trained reward models as reward sources: they read token ids, and prompts are shared."""

from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.config.schema import ModelReward
from plaudit.errors import PlauditError
from plaudit.rewards.grouping import padded_positions, samples_to_trees
from plaudit.rewards.sources import build_reward
from reward_samples import make_tokenizer, sample_of, save_classifier
from small_memory import small_memory

TEXTS = [
    ("the day", "was very good"),
    ("the day", "is bad"),
    ("the day", "was"),
    ("a night", "is bad"),
    ("the day", "not rude"),
]


def test_consecutive_samples_of_a_prompt_share_a_tree() -> None:
    samples = [sample_of(prompt, response) for prompt, response in TEXTS]
    trees = samples_to_trees(samples, most_responses=2)
    assert [len(tree.responses) for tree in trees] == [2, 1, 1, 1]
    assert [response for tree in trees for response in tree.responses] == [sample.response_ids for sample in samples]
    assert [tree.prompt for tree in trees for _ in tree.responses] == [sample.prompt_ids for sample in samples]
    assert padded_positions(samples, 2) == 2 * (2 + 4)
    assert all(tree.positions <= padded_positions(samples, 2) for tree in trees)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_scores_equal_a_plain_classifier_on_the_same_token_ids(tmp_path: Path, batch_size: int) -> None:
    from transformers import AutoModelForSequenceClassification

    path = save_classifier(tmp_path, ["score"])
    config = ModelReward(name="judge", path=path, batch_size=batch_size)
    samples = [sample_of(prompt, response) for prompt, response in TEXTS]
    scores = build_reward([config], torch.device("cpu")).score(samples).total
    model = AutoModelForSequenceClassification.from_pretrained(path)
    with torch.no_grad():
        rows = [torch.tensor([sample.prompt_ids + sample.response_ids]) for sample in samples]
        plain = torch.cat([model(row).logits[:, 0] for row in rows])
    torch.testing.assert_close(scores, plain, atol=1e-5, rtol=1e-5)
    assert scores.std() > 0.05


def test_equal_responses_are_scored_once_and_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If rounding depended on the place in a batch, equal responses would seem to have different scores."""
    config = ModelReward(name="judge", path=save_classifier(tmp_path, ["score"]))
    reward = build_reward([config], torch.device("cpu"))
    samples = [sample_of(prompt, response) for prompt, response in TEXTS]
    scored: list[int] = []
    model: Any = reward.sources[0].model  # type: ignore[attr-defined]
    original = model.scores

    def scores(trees: Any, budget: int) -> torch.Tensor:
        scored.append(sum(len(tree.responses) for tree in trees))
        found: torch.Tensor = original(trees, budget)
        return found

    monkeypatch.setattr(model, "scores", scores)
    order = [3, 0, 3, 1, 0, 2, 4, 3]
    many = reward.score([samples[index] for index in order]).total
    one = reward.score(samples).total
    assert scored == [5, 5]
    torch.testing.assert_close(many, one[order], atol=1e-6, rtol=1e-6)
    assert many[0] == many[2] == many[7]
    assert many[1] == many[4]


@pytest.mark.parametrize("positions", [6, 12, 13])
def test_out_of_memory_halves_the_batch_and_changes_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], positions: int
) -> None:
    config = ModelReward(name="judge", path=save_classifier(tmp_path, ["score"]), batch_size=64)
    samples = [sample_of(prompt, response) for prompt, response in TEXTS]
    reward = build_reward([config], torch.device("cpu"))
    wanted = reward.score(samples).total
    rows = small_memory(monkeypatch, positions)
    torch.testing.assert_close(reward.score(samples).total, wanted, atol=1e-6, rtol=1e-6)
    assert len(rows) > 1
    told = capsys.readouterr().err
    # 5 responses, then 2, then 1; a response with its prompt has 6 positions at most.
    halvings = [f"out of memory: the batch size of reward source 'judge' is now {size};" for size in (2, 1)]
    assert [line in told for line in halvings] == [True, positions == 6]


def test_too_little_memory_for_one_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelReward(name="judge", path=save_classifier(tmp_path, ["score"]))
    reward = build_reward([config], torch.device("cpu"))
    small_memory(monkeypatch, 2)
    with pytest.raises(PlauditError, match=r"even when the batch size of reward source 'judge' is 1; use a smaller"):
        reward.score([sample_of("the day", "was good")])


def test_mismatched_tokenizers(tmp_path: Path) -> None:
    config = ModelReward(name="judge", path=save_classifier(tmp_path, ["score"]))
    reward = build_reward([config], torch.device("cpu"))
    tokenizer = make_tokenizer()
    reward.check_tokenizer(tokenizer)
    tokenizer.add_tokens(["afternoon"])
    with pytest.raises(
        PlauditError, match=r"mismatched tokenizers: .*'judge' \(15 tokens\) and the policy \(16 tokens\)"
    ):
        reward.check_tokenizer(tokenizer)


def test_a_response_beyond_the_reward_models_context(tmp_path: Path) -> None:
    config = ModelReward(name="judge", path=save_classifier(tmp_path, ["score"]))
    reward = build_reward([config], torch.device("cpu"))
    reward.score([sample_of("the day", "was " * 29)])
    with pytest.raises(PlauditError, match=r"'judge': .* response has 33 tokens, but the reward model accepts 32"):
        reward.score([sample_of("the day", "was " * 30)])
