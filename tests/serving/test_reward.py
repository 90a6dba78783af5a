"""Rewards in Python: every kind of source gives the scores that a run uses."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import plaudit
from plaudit.config.load import dump, load_recipe
from plaudit.config.schema import ClassifierReward, EnsembleReward, ModelReward
from plaudit.rewards.sources import build_reward
from plaudit.rollouts.samples import Sample
from reward_samples import sample_of, save_classifier
from served_models import CPU, write_run

PROMPTS = ["w1 w2", "w3", "w4 good"]
RESPONSES = ["w5 bad", "w6", "good good w9"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_classifier(tmp_path_factory.mktemp("classifier"), ["kind", "rude"])


def samples_of(folder: Path) -> list[Sample]:
    """Return the samples of a policy that answers PROMPTS, in the template of its training, with RESPONSES."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        Sample(
            tuple(tokenizer(f"w7 {prompt} w8")["input_ids"]),
            (*tokenizer(response)["input_ids"], tokenizer.eos_token_id),
            f"w7 {prompt} w8",
            response,
            True,
        )
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]


def test_scores_are_those_of_a_run_and_of_plain_transformers(run: Path) -> None:
    folder = run / "reward/model"
    scores = plaudit.load_reward(folder, device="cpu").score(PROMPTS, RESPONSES)
    samples = samples_of(folder)
    of_run = build_reward([ModelReward(name="judge", path=str(folder))], CPU).score(samples).total
    assert scores.tolist() == of_run.tolist()
    assert scores.dtype == np.float32
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        plain = [model(torch.tensor([[*one.prompt_ids, *one.response_ids]])).logits.item() for one in samples]
    rest = json.loads((folder / "score_scale.json").read_text())["remaining_bias"]  # as README.md in the folder says
    np.testing.assert_allclose(scores, np.array(plain) + rest, atol=1e-5)
    assert np.ptp(scores) > 0.1
    assert plaudit.load_reward(plaudit.Run(run), device="cpu").score(PROMPTS, RESPONSES).tolist() == scores.tolist()


def test_an_empty_response_is_the_end_token(run: Path) -> None:
    folder = run / "reward/model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = plaudit.load_reward(folder, device="cpu").score(PROMPTS, ["w5 bad", "", "good good w9"])
    sample = Sample(tuple(tokenizer("w7 w3 w8")["input_ids"]), (tokenizer.eos_token_id,), "w7 w3 w8", "", True)
    samples = samples_of(folder)
    of_run = build_reward([ModelReward(name="judge", path=str(folder))], CPU).score([samples[0], sample, samples[2]])
    assert scores.tolist() == of_run.total.tolist()


def test_generations_are_scored_with_their_own_tokens(run: Path) -> None:
    policy, reward = plaudit.load_policy(run, device="cpu"), plaudit.load_reward(run, device="cpu")
    generations = policy.generate(PROMPTS, n=4, max_new_tokens=5)
    assert not all(text.ended for own in generations for text in own)  # so that the end token matters
    scores = reward.score(PROMPTS, generations)
    assert scores.shape == (3, 4)
    of_run = build_reward([ModelReward(name="judge", path=str(run / "reward/model"))], CPU)
    expected = of_run.score([text.sample for own in generations for text in own]).total
    assert scores.ravel().tolist() == expected.tolist()
    first = reward.score(PROMPTS, [own[0] for own in generations])
    np.testing.assert_allclose(first, scores[:, 0], atol=1e-6)
    with pytest.raises(plaudit.PlauditError, match=r"^prompts line 1: the Generation belongs to another prompt"):
        reward.score(PROMPTS[::-1], generations)


def test_dialogues_are_read_as_in_training(run: Path) -> None:
    folder = run / "reward/model"
    reward, tokenizer = plaudit.load_reward(folder, device="cpu"), AutoTokenizer.from_pretrained(folder)
    turns = [
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": "w2"},
        {"role": "user", "content": "w3"},
    ]
    [score] = reward.score([turns], ["w4"])
    text = "\n\nHuman: w1\n\nAssistant: w2\n\nHuman: w3\n\nAssistant:"
    sample = Sample(
        tuple(tokenizer(text)["input_ids"]), (*tokenizer(" w4")["input_ids"], tokenizer.eos_token_id), text, "w4", True
    )
    of_run = build_reward([ModelReward(name="judge", path=str(folder))], CPU)
    assert score == of_run.score([sample]).total.item()


@pytest.mark.parametrize("combination", ["mean", "minimum"])
def test_an_ensemble_of_a_run_is_scored_as_one(run: Path, tmp_path: Path, combination: Any) -> None:
    other = tmp_path / "run"
    (other / "reward/model").mkdir(parents=True)
    (other / "config.yaml").write_text(dump(load_recipe(str(run.parents[1] / "recipe.yaml"))))
    for number, member in enumerate(("reward", "other"), start=1):
        (other / f"reward/member-{number}").mkdir()
        (other / f"reward/member-{number}/model").symlink_to(run / member / "model")
    options = {} if combination == "mean" else {"combination": combination}
    scores = plaudit.load_reward(other, device="cpu", **options).score(PROMPTS, RESPONSES)
    paths = [str(run / member / "model") for member in ("reward", "other")]
    ensemble = EnsembleReward(name="judge", paths=paths, combination=combination)
    expected = build_reward([ensemble], CPU).score(samples_of(run / "reward/model")).total
    assert scores.tolist() == expected.tolist()


@pytest.mark.parametrize("options", [{}, {"output": "probability"}, {"scored_text": "response"}])
def test_a_label_of_a_classifier(classifier: str, options: dict[str, Any]) -> None:
    prompts, responses = ["the day", "a night"], ["was very good", "is bad"]
    scores = plaudit.load_reward(f"{classifier}:rude", device="cpu", **options).score(prompts, responses)
    config = ClassifierReward(name="judge", path=classifier, label="rude", **options)
    samples = [sample_of(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    assert scores.tolist() == build_reward([config], CPU).score(samples).total.tolist()
    entry = {"name": "judge", "kind": "classifier", "path": classifier, "label": "rude", **options}
    assert plaudit.load_reward(entry, device="cpu").score(prompts, responses).tolist() == scores.tolist()


def words(prompts: list[str], responses: list[str], **columns: list[Any]) -> list[float]:
    factors = columns.get("factor", [1] * len(responses))
    return [factor * len(response.split()) for factor, response in zip(factors, responses, strict=True)]


def test_functions_get_texts_and_columns() -> None:
    reward = plaudit.load_reward(words)
    assert reward.score(PROMPTS, RESPONSES).tolist() == [2, 1, 3]
    assert reward.score(PROMPTS, RESPONSES, factor=[1, 10, 100]).tolist() == [2, 10, 300]
    assert reward.score(["w1"], [["a", "b c"]], factor=[10]).tolist() == [[10, 20]]
    assert "words" in repr(reward)
    table = pandas.DataFrame({"prompt": PROMPTS, "factor": [1, 10, 100]})
    for rows in (table, table.to_dict("records"), datasets.Dataset.from_pandas(table)):
        assert reward.score(rows, RESPONSES).tolist() == [2, 10, 300]
    first = plaudit.load_reward(lambda prompts, responses: [len(prompt) for prompt in prompts])
    assert first.score([[{"role": "user", "content": "w1"}]], ["x"]).tolist() == [len("\n\nHuman: w1\n\nAssistant:")]
    named = plaudit.load_reward("reward_samples:lengths")
    assert named.score(PROMPTS, RESPONSES).tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    "prompts, responses, columns, message",
    [
        (PROMPTS, ["a"], {}, r"^1 responses for 3 prompts; give a list with a response for each prompt$"),
        (PROMPTS, "abc", {}, r"^one text for 3 prompts; "),
        (PROMPTS, ["a", "b", 3], {}, r"^responses: give one for each prompt|neither a text"),
        (PROMPTS, [["a"], ["b"], ["c", "d"]], {}, r"^responses: .* lists of the same length"),
        (PROMPTS, ["a", "b", "c"], {"factor": [1]}, r"^factor: 1 values for 3 prompts"),
        ("abc", ["a", "b", "c"], {}, r"^prompts: expected a list"),
        ({"prompt": "a"}, ["a"], {}, r"^prompts: expected a list"),
        (pandas.DataFrame({"text": ["a"]}), ["a"], {}, r"^prompts line 1: "),
    ],
)
def test_lists_that_do_not_fit_are_refused_in_one_line(
    prompts: Any, responses: Any, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(plaudit.PlauditError, match=message) as error:
        plaudit.load_reward(words).score(prompts, responses, **columns)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("{classifier}", {}, r"no label is set; choose one of the classifier's labels: kind, rude$"),
        ("{classifier}:mean", {}, r"there is no label 'mean'; choose one of the classifier's labels: kind, rude$"),
        ("{run}/sft/model", {}, r"no trained weights for score\.weight"),
        ("{classifier}:kind", {"outputs": "logit"}, r"^load_reward: outputs: unknown; did you mean output\?$"),
        ("http://", {}, r"^load_reward: url: not an address"),
        (3, {}, r"^a reward of type int: expected a run"),
        ({"kind": "clasifier"}, {}, r"^load_reward: kind: choose one of model, ensemble, classifier"),
    ],
)
def test_what_is_not_a_reward_is_refused(
    run: Path, classifier: str, source: Any, options: dict[str, Any], message: str
) -> None:
    named = source.format(run=run, classifier=classifier) if isinstance(source, str) else source
    with pytest.raises(plaudit.PlauditError, match=message):
        plaudit.load_reward(named, device="cpu", **options)
