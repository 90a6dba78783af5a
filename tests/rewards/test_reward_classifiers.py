"""Sequence classifiers as reward sources, against plain transformers calls."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from plaudit.config.schema import ClassifierReward
from plaudit.errors import PlauditError
from plaudit.rewards.classifier import ClassifierSource
from plaudit.rewards.sources import RewardSource, build_reward
from reward_samples import WORDS, make_tokenizer, sample_of, save_classifier
from small_memory import small_memory

CPU = torch.device("cpu")
TEXTS = [
    ("the day", "was very good"),
    ("a night", "is bad"),
    ("the", "kind"),
    ("the very bad night", "is not rude"),
]


def build(path: str, **options: Any) -> RewardSource:
    return build_reward([ClassifierReward(name="mood", path=path, **options)], CPU).sources[0]


def plain_logits(path: str, texts: list[str]) -> torch.Tensor:
    """One text at a time: no padding, no batches."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


@pytest.mark.parametrize("scored_text", ["both", "response"])
def test_logit_of_the_named_label(tmp_path: Path, scored_text: Literal["both", "response"]) -> None:
    path = save_classifier(tmp_path, ["sad", "neutral", "glad"])
    source = build(path, label="glad", scored_text=scored_text, batch_size=3)
    texts = [prompt + response if scored_text == "both" else response for prompt, response in TEXTS]
    scores = source.score([sample_of(prompt, response) for prompt, response in TEXTS])
    torch.testing.assert_close(scores, plain_logits(path, texts)[:, 2])
    assert scores.std() > 0.05  # otherwise the comparison would show little


def test_out_of_memory_halves_the_batch_and_changes_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_classifier(tmp_path, ["sad", "neutral", "glad"])
    source = build(path, label="glad", scored_text="both")
    rows = small_memory(monkeypatch, 10)
    scores = source.score([sample_of(prompt, response) for prompt, response in TEXTS])
    assert rows == [2, 1, 1], "the two short texts together, the last two alone"
    torch.testing.assert_close(scores, plain_logits(path, [prompt + response for prompt, response in TEXTS])[:, 2])
    assert "the batch size of reward source 'mood' is now 1" in capsys.readouterr().err
    monkeypatch.undo()
    small_memory(monkeypatch, 1)
    with pytest.raises(PlauditError, match=r"even when the batch size of reward source 'mood' is 1; use a smaller"):
        source.score([sample_of("the day", "was good")])


@pytest.mark.parametrize(
    "labels, problem_type, label, activation",
    [
        (["sad", "glad"], None, "glad", lambda logits: logits.softmax(-1)[:, 1]),
        (["sad", "glad"], "single_label_classification", "sad", lambda logits: logits.softmax(-1)[:, 0]),
        (["sad", "glad"], "multi_label_classification", "glad", lambda logits: logits[:, 1].sigmoid()),
        (["mood"], None, None, lambda logits: logits[:, 0].sigmoid()),
    ],
)
def test_probability_by_the_classifiers_own_activation(
    tmp_path: Path,
    labels: list[str],
    problem_type: str | None,
    label: str | None,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    path = save_classifier(tmp_path, labels, problem_type)
    source = build(path, label=label, output="probability", scored_text="response")
    scores = source.score([sample_of(prompt, response) for prompt, response in TEXTS])
    torch.testing.assert_close(scores, activation(plain_logits(path, [response for _, response in TEXTS])))


def test_an_empty_response_is_scored_as_the_end_token(tmp_path: Path) -> None:
    path = save_classifier(tmp_path, ["sad", "glad"])
    source = build(path, label="glad", scored_text="response")
    torch.testing.assert_close(source.score([sample_of("the", "")]), plain_logits(path, ["[EOS]"])[:, 1])


@pytest.mark.parametrize("label, problem", [("happy", "there is no label 'happy'"), (None, "no label is set")])
def test_unknown_labels_list_the_known(tmp_path: Path, label: str | None, problem: str) -> None:
    with pytest.raises(PlauditError, match=f"'mood': {problem}; choose one of .*sad, neutral, glad"):
        build(save_classifier(tmp_path, ["sad", "neutral", "glad"]), label=label)


def test_a_text_beyond_the_context_is_refused_if_configured(tmp_path: Path) -> None:
    source = build(save_classifier(tmp_path, ["sad", "glad"]), label="glad", scored_text="response", overlong="error")
    source.score([sample_of("the", "day " * 24)])
    with pytest.raises(PlauditError, match="a text has 25 tokens, but the classifier reads 24"):
        source.score([sample_of("the", "day " * 25)])


def test_the_end_of_a_text_beyond_the_context_is_scored_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_classifier(tmp_path, ["sad", "glad"])
    source = build(path, label="glad", scored_text="both")
    texts = [("the " * 30, "was rude"), ("the ", "day"), ("a " * 30, "night")]
    scores = source.score([sample_of(*text) for text in texts])
    read = ["the " * 22 + "was rude", "the day", "a " * 23 + "night"]
    torch.testing.assert_close(scores, plain_logits(path, read)[:, 1])
    assert capsys.readouterr().err.count("a text has 32 tokens, but the classifier reads 24") == 1
    assert isinstance(source, ClassifierSource)
    assert vars(source.take_counts()) == {"texts": 3, "truncated": 2}


ROBERTA_LIKE = ["roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "data2vec-text", "roberta-prelayernorm"]


@pytest.mark.parametrize("architecture", [*ROBERTA_LIKE, "bert", "distilbert", "electra", "gpt2"])
def test_the_longest_text_is_one_that_the_model_can_read(tmp_path: Path, architecture: str) -> None:
    """RoBERTa and its relatives count positions from after the padding token, so 34 positions are 32 tokens."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = AutoConfig.for_model(
        architecture, vocab_size=len(WORDS), max_position_embeddings=34, pad_token_id=1, bos_token_id=0, **sizes
    )
    if architecture == "longformer":
        config.attention_window = [8]
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    source = build(str(tmp_path), label="LABEL_1", scored_text="response")
    assert isinstance(source, ClassifierSource)
    assert source.classifier.longest == (32 if architecture in ROBERTA_LIKE else 34)
    long, same = (source.score([sample_of("the", "day " * number)]) for number in (200, source.classifier.longest))
    torch.testing.assert_close(long, same)
    with pytest.raises((IndexError, RuntimeError)):
        source.classifier.model(torch.full((1, source.classifier.longest + 1), 5))


def test_folders_without_a_trained_classifier(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(PlauditError) as refused:
        build(str(missing), label="glad")
    assert str(refused.value) == (
        f"cannot load classifier {missing} of reward source 'mood': no such folder; give an existing folder or a hub "
        "name"
    )
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PlauditError, match=r"no trained weights for score\.weight"):
        build(str(tmp_path), label="LABEL_1")


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    path = save_classifier(tmp_path, ["sad", "glad"])
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(path)
    with pytest.raises(PlauditError, match="'mood': the classifier's tokenizer has no padding token"):
        build(path, label="glad")


def test_batches_change_nothing(tmp_path: Path) -> None:
    path = save_classifier(tmp_path, ["sad", "glad"])
    samples = [sample_of(prompt, response) for prompt, response in TEXTS]
    single, together = build(path, label="glad", batch_size=1), build(path, label="glad", batch_size=64)
    assert isinstance(single, ClassifierSource)
    torch.testing.assert_close(single.score(samples), together.score(samples))


def test_padding_shifts_no_position(tmp_path: Path) -> None:
    """GPT-2 counts positions from the row's start, so padding on the left would change the scores."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=len(WORDS), initializer_range=0.5, pad_token_id=0, **sizes)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    scores = build(str(tmp_path), label="LABEL_1", scored_text="response").score([sample_of(*text) for text in TEXTS])
    torch.testing.assert_close(scores, plain_logits(str(tmp_path), [response for _, response in TEXTS])[:, 1])
