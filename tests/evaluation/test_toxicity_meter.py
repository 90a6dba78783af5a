"""The toxicity meter, against plain transformers and numbers by hand."""

from pathlib import Path
from typing import Any, Literal

import pandas
import pytest
import torch

from evaluation_world import ALONE, ScriptedEngine, make_tokenizer, save_classifier
from plaudit.config.schema import GenerationConfig, ToxicityConfig, TrainedModelConfig
from plaudit.errors import PlauditError
from plaudit.evaluation.toxicity import ToxicityMeter, summarize_toxicity, toxicity_table
from plaudit.rollouts.samples import Request

TEXTS = ["the day was good", "rude", "a very bad night", "rude"]


def meter_of(folder: Path, labels: list[str], activation: Literal["sigmoid", "softmax"] = "sigmoid") -> ToxicityMeter:
    path = save_classifier(folder, ["fine", "insult", "threat"])
    config = ToxicityConfig(classifier=TrainedModelConfig(path=path), labels=labels, activation=activation)
    return ToxicityMeter(config, ALONE, batch_size=2)


def plain_logits(path: Path, texts: list[str]) -> Any:
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), make_tokenizer()
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_probabilities_of_the_toxic_labels_add_up(tmp_path: Path, activation: Literal["sigmoid", "softmax"]) -> None:
    measured = meter_of(tmp_path, ["threat", "insult"], activation).measure(TEXTS)
    logits = plain_logits(tmp_path, TEXTS)
    probabilities = logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)
    torch.testing.assert_close(torch.tensor(measured), probabilities[:, 1] + probabilities[:, 2])


def test_unknown_labels_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match=r"evaluate\.toxicity: there is no label 'toxic'.*: fine, insult, threat"):
        meter_of(tmp_path, ["toxic"])


def test_table(tmp_path: Path) -> None:
    meter = meter_of(tmp_path, ["insult"])
    requests = [Request((3, 7), "the day", seed) for seed in (1, 2)] + [Request((14,), "rude", 3)]
    samples = ScriptedEngine(None).generate(requests, GenerationConfig(max_new_tokens=5))
    table = toxicity_table(meter, samples)
    assert list(table.columns) == ["prompt", "response", "prompt_toxicity", "response_toxicity"]
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
