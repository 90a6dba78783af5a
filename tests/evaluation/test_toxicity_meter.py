"""The toxicity meter, against plain transformers and numbers by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig

from evaluation_world import ALONE, ScriptedEngine, make_tokenizer, save_classifier
from plaudit.config.schema import GenerationConfig, ToxicityConfig, TrainedModelConfig
from plaudit.errors import PlauditError
from plaudit.evaluation.toxicity import ToxicityMeter, summarize_toxicity, toxic_indices, toxicity_table
from plaudit.rollouts.samples import Request

TEXTS = ["the day was good", "rude", "a very bad night", "rude"]


def meter_of(folder: Path, labels: list[str], activation: Any = "sigmoid", **options: Any) -> ToxicityMeter:
    path = save_classifier(folder, ["fine", "insult", "threat"])
    config = ToxicityConfig(classifier=TrainedModelConfig(path=path), labels=labels, activation=activation, **options)
    return ToxicityMeter(config, ALONE, batch_size=2)


def plain_logits(path: Path, texts: list[str]) -> Any:
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), make_tokenizer()
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


SEVERAL: list[tuple[Any, Any, Callable[[Any], Any], str]] = [
    ("sigmoid", "any", lambda p: 1 - (1 - p[:, 1]) * (1 - p[:, 2]), "1 - product of (1 - p) over threat, insult"),
    ("sigmoid", "maximum", lambda p: p[:, 1:].amax(1), "maximum of p over threat, insult (sigmoid)"),
    ("softmax", None, lambda p: p[:, 1] + p[:, 2], "sum of p over threat, insult (softmax)"),
]


@pytest.mark.parametrize("activation, combination, expected, definition", SEVERAL)
def test_several_labels_give_one_probability(
    tmp_path: Path, activation: Any, combination: Any, expected: Callable[[Any], Any], definition: str
) -> None:
    options = {} if combination is None else {"combination": combination}
    meter = meter_of(tmp_path, ["threat", "insult"], activation, **options)
    measured = torch.tensor(meter.measure(TEXTS))
    logits = plain_logits(tmp_path, TEXTS)
    probabilities = logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)
    torch.testing.assert_close(measured, expected(probabilities))
    assert meter.definition.startswith(definition)
    certain = meter.combined(torch.tensor([[0.9, 0.8], [1.0, 1.0], [0.7, 0.30000004]]))
    assert certain.le(1).all(), "a probability"


def test_labels_that_exclude_each_other_or_not(tmp_path: Path) -> None:
    """The classifier's own configuration decides; without one, the recipe does."""
    config = LlamaConfig(num_labels=3, problem_type="multi_label_classification")
    wanted = toxicity(["LABEL_0", "LABEL_2"], "softmax")
    with pytest.raises(PlauditError, match=r"toxicity\.activation: softmax, but .* 3 labels are for sigmoid; set sigm"):
        toxic_indices(wanted, config, "evaluate.toxicity")
    assert toxic_indices(toxicity(["LABEL_0", "LABEL_2"], "sigmoid"), config, "evaluate.toxicity") == [0, 2]
    config.problem_type = "single_label_classification"
    with pytest.raises(PlauditError, match=r"sigmoid, but .* for softmax; set softmax"):
        toxic_indices(toxicity(["LABEL_0"], "sigmoid"), config, "evaluate.toxicity")
    config.problem_type = None
    assert toxic_indices(wanted, config, "evaluate.toxicity") == [0, 2]
    with pytest.raises(PlauditError, match=r"always add up to 1; .* of LABEL_0, LABEL_1, LABEL_2"):
        toxic_indices(toxicity(["LABEL_0", "LABEL_1", "LABEL_2"], "softmax"), config, "evaluate.toxicity")


def test_ambiguous_labels_are_refused_with_the_labels(tmp_path: Path) -> None:
    config = LlamaConfig(id2label={0: "toxic", 1: "fine", 2: "toxic"})
    with pytest.raises(PlauditError, match=r"2 outputs are called 'toxic', .*: toxic, fine, toxic"):
        toxic_indices(toxicity(["toxic"], "sigmoid"), config, "evaluate.toxicity")
    with pytest.raises(ValidationError, match="toxic is named twice"):
        toxicity(["toxic", "toxic"], "sigmoid")


def toxicity(labels: list[str], activation: Any) -> ToxicityConfig:
    return ToxicityConfig(classifier=TrainedModelConfig(path="x"), labels=labels, activation=activation)


def test_a_nan_names_the_text(tmp_path: Path) -> None:
    meter = meter_of(tmp_path, ["insult"])
    with torch.no_grad():
        meter.classifier.model.get_input_embeddings().weight[14] = float("nan")  # rude
    with pytest.raises(PlauditError, match=r"evaluate\.toxicity: the classifier gave nan for text 2 of 4, 'rude'"):
        meter.measure(TEXTS)


@pytest.mark.parametrize("overlong", ["truncate", "error"])
def test_the_end_of_long_texts_is_read_and_counted(tmp_path: Path, overlong: Any) -> None:
    meter = meter_of(tmp_path, ["insult"], overlong=overlong)
    long = "day " * 70 + "was rude"
    if overlong == "error":
        with pytest.raises(PlauditError, match=r"a text has 72 tokens, but the classifier reads 64; .* overlong"):
            meter.measure([long])
        return
    assert meter.measure([long, "rude"]) == meter.measure(["day " * 62 + "was rude", "rude"])
    assert vars(meter.classifier.take_counts()) == {"texts": 4, "truncated": 1}
    assert vars(meter.classifier.take_counts()) == {"texts": 0, "truncated": 0}


def test_unknown_labels_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match=r"evaluate\.toxicity: there is no label 'toxic'.*: fine, insult, threat"):
        meter_of(tmp_path, ["toxic"])


def test_table(tmp_path: Path) -> None:
    meter = meter_of(tmp_path, ["insult"])
    requests = [Request((3, 7), "the day", seed) for seed in (1, 2)] + [Request((14,), "rude", 3)]
    samples = ScriptedEngine(None).generate(requests, GenerationConfig(max_new_tokens=5))
    table = toxicity_table(meter, samples)
    assert list(table.columns) == ["prompt", "response", "prompt_toxicity", "response_toxicity", "measure"]
    assert set(table["measure"]) == {"p of insult (sigmoid)"}
    assert table["response"].tolist() == [sample.response_text for sample in samples]
    expected = plain_logits(tmp_path, table["response"].tolist()).sigmoid()[:, 1]
    assert table["response_toxicity"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    prompts = plain_logits(tmp_path, ["the day", "the day", "rude"]).sigmoid()[:, 1]
    assert table["prompt_toxicity"].tolist() == pytest.approx(prompts.tolist(), rel=1e-5)


def table_of(prompts: list[str], prompt_toxicity: list[float], response_toxicity: list[float]) -> pandas.DataFrame:
    columns = {"prompt": prompts, "prompt_toxicity": prompt_toxicity, "response_toxicity": response_toxicity}
    return pandas.DataFrame(columns)


def test_summary_of_single_responses() -> None:
    table = table_of(["a", "b", "c", "d"], [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.9, 0.0])
    assert summarize_toxicity(table) == pytest.approx({"mean": 0.5, "fraction_above_half": 0.5, "prompt_mean": 0.25})


def test_summary_of_several_responses() -> None:
    table = table_of(["a", "a", "a", "b"], [0.1, 0.1, 0.1, 0.5], [0.2, 0.9, 0.4, 0.3])
    expected = {"mean": 0.45, "fraction_above_half": 0.25, "prompt_mean": 0.3}
    worst = {"expected_maximum": 0.6, "fraction_with_toxic": 0.5}
    assert summarize_toxicity(table) == pytest.approx(expected | worst)
