"""The comparison of models: the summary's structure, and each of its numbers computed in another way."""

import csv
import json
import math
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evaluation_world import (
    ALONE,
    PROMPTS,
    WORDS,
    ScriptedEngine,
    make_config,
    save_classifier,
    save_policy,
    save_prompts,
    save_tiny,
)
from loaded_rows import load_rows
from plaudit.config.schema import DataConfig, EvaluateConfig, GenerationConfig, ModelConfig
from plaudit.data.rows import PromptRow
from plaudit.data.store.cache import DataCache
from plaudit.errors import PlauditError
from plaudit.evaluation.compare import evaluate
from plaudit.evaluation.statistics import mean_with_error, win_rate
from plaudit.evaluation.summary import flattened
from plaudit.models.loading.models import LoadedModel, load_policy
from plaudit.reporting.terminal import comparison_table
from plaudit.rollouts.samples import Request, Sample
from small_memory import small_memory


class SecondIsKind(ScriptedEngine):
    """The first model answers as scripted, the second adds a kind word."""

    engines: dict[int, "SecondIsKind"] = {}  # noqa: RUF012 (replaced for every test)

    def __init__(self, loaded: Any) -> None:
        super().__init__(loaded)
        self.kind = loaded.model.config.name_or_path.endswith("second")
        self.engines[len(self.engines)] = self

    def answer(self, request: Request, settings: GenerationConfig) -> Sample:
        sample = super().answer(request, settings)
        if not self.kind:
            return sample
        ids = (WORDS.index("kind"), *sample.response_ids)
        return Sample(sample.prompt_ids, ids, sample.prompt_text, "kind " + sample.response_text, sample.ended)


@pytest.fixture(autouse=True)
def _fresh_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondIsKind, "engines", {})


def run(config: EvaluateConfig, folder: Path, engine: Any = SecondIsKind, **options: Any) -> dict[str, Any]:
    return evaluate(
        config,
        folder,
        seed=3,
        processes=ALONE,
        simulated=False,
        cache=DataCache(folder / "cache"),
        make_engine=engine,
        **options,
    )


def test_out_of_memory_changes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = run(make_config(tmp_path), tmp_path / "whole")
    small_memory(monkeypatch, 12)
    found = run(make_config(tmp_path), tmp_path / "halved")
    assert (
        "the batch size of log-probabilities is now 1; this changes results only by rounding" in capsys.readouterr().err
    )
    assert found["samples"] == wanted["samples"]
    assert found["best_of_n"] == wanted["best_of_n"]
    numbers = flattened(wanted["models"])
    assert flattened(found["models"]) == pytest.approx(numbers, rel=1e-4, abs=1e-5)


def answers_of(engine: ScriptedEngine) -> list[Sample]:
    return [engine.answer(request, GenerationConfig(max_new_tokens=6)) for request in engine.asked[: len(PROMPTS)]]


def plain_log_probabilities(path: str, samples: Sequence[Sample]) -> list[torch.Tensor]:
    """One sequence at a time, with transformers only."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path)
    found = []
    for sample in samples:
        ids = torch.tensor([sample.prompt_ids + sample.response_ids])
        with torch.no_grad():
            log_probabilities = model(ids).logits[0, :-1].log_softmax(-1)
        chosen = log_probabilities.gather(1, ids[0, 1:, None])[:, 0]
        found.append(chosen[len(sample.prompt_ids) - 1 :])
    return found


def test_every_number_of_the_summary(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    summary = run(config, tmp_path / "evaluate")
    first, second = (answers_of(SecondIsKind.engines[index]) for index in (0, 1))
    words = [torch.tensor([float(len(s.response_text.split())) for s in samples]) for samples in (first, second)]
    assert list(summary["models"]) == ["first", "second"]
    measured = summary["models"]["second"]
    assert measured["scores"]["words"] == mean_with_error(words[1])
    assert summary["models"]["first"]["scores"]["words"] == mean_with_error(words[0])
    assert measured["win_rate"]["words"] == win_rate(words[1], words[0])
    assert measured["win_rate"]["words"]["rate"] == 1.0
    assert "win_rate" not in summary["models"]["first"]

    own = plain_log_probabilities(str(tmp_path / "second"), second)
    under_first = plain_log_probabilities(str(tmp_path / "first"), second)
    kl = mean_with_error([(p - q).sum().item() for p, q in zip(own, under_first, strict=True)])
    nll = -torch.cat(under_first).mean().item()
    assert measured["kl"] == pytest.approx(kl, rel=1e-4)
    assert measured["negative_log_likelihood"] == pytest.approx(nll, rel=1e-5)
    assert measured["perplexity"] == pytest.approx(math.exp(nll), rel=1e-4)
    assert summary["models"]["first"]["kl"] == {"mean": 0.0, "standard_error": 0.0}
    assert abs(kl["mean"]) > 1  # the two models differ, so that zero would not pass

    lengths = [len(sample.response_ids) for sample in second]
    assert measured["length"] == pytest.approx(sum(lengths) / len(PROMPTS))
    assert measured["ended_fraction"] == sum(sample.ended for sample in second) / len(PROMPTS)
    tokens = " ".join(sample.response_text for sample in second).split()
    assert measured["distinct_1"] == len(set(tokens)) / len(tokens)


def test_structure_and_settings(tmp_path: Path) -> None:
    summary = run(make_config(tmp_path), tmp_path / "evaluate")
    told = ("prompts", "prompts_too_long", "prompts_truncated", "simulated", "baseline", "reference")
    settings = {key: summary[key] for key in told}
    assert settings == {
        "prompts": len(PROMPTS),
        "prompts_too_long": 0,
        "prompts_truncated": 0,
        "simulated": False,
        "baseline": "first",
        "reference": "first",
    }
    assert summary["reward_sources"] == ["words", "kindness"]
    assert summary["generation"]["max_new_tokens"] == 6
    assert summary["best_of_n"] == []
    assert "toxicity" not in summary
    assert set(summary["models"]["second"]) == {
        *("scores", "win_rate", "kl", "negative_log_likelihood", "perplexity"),
        *("length", "distinct_1", "distinct_2", "ended_fraction"),
    }
    assert json.loads((tmp_path / "evaluate" / "summary.json").read_text()) == summary


def test_all_models_get_the_same_requests(tmp_path: Path) -> None:
    run(make_config(tmp_path), tmp_path / "evaluate")
    asked = [engine.asked for engine in SecondIsKind.engines.values()]
    assert asked[0] == asked[1]
    assert [request.prompt_text for request in asked[0]] == PROMPTS
    assert len({request.seed for request in asked[0]}) == len(PROMPTS)


def test_samples_side_by_side(tmp_path: Path) -> None:
    summary = run(make_config(tmp_path), tmp_path / "evaluate")
    first, second = (answers_of(SecondIsKind.engines[index]) for index in (0, 1))
    assert [sample["prompt"] for sample in summary["samples"]] == PROMPTS[:3]
    for index, shown in enumerate(summary["samples"]):
        assert shown["responses"]["second"] == {
            "text": second[index].response_text,
            "scores": {
                "words": len(second[index].response_text.split()),
                "kindness": second[index].response_text.split().count("kind"),
            },
        }
        assert shown["responses"]["first"]["text"] == first[index].response_text


def test_models_are_in_memory_one_after_the_other(tmp_path: Path) -> None:
    alive: list[Any] = []

    def load(config: ModelConfig, device: torch.device) -> LoadedModel:
        assert all(model() is None for model in alive)
        loaded = load_policy(config, device)
        alive.append(weakref.ref(loaded.model))
        return loaded

    run(make_config(tmp_path), tmp_path / "evaluate", ScriptedEngine, load=load)
    assert len(alive) == 3  # both models, then the reference
    assert all(model() is None for model in alive)


def test_the_reference_may_be_another_model(tmp_path: Path) -> None:
    summary = run(make_config(tmp_path, reference="second"), tmp_path / "evaluate")
    assert summary["models"]["second"]["kl"]["mean"] == 0.0
    first = answers_of(SecondIsKind.engines[0])
    under_second = torch.cat(plain_log_probabilities(str(tmp_path / "second"), first))
    measured = summary["models"]["first"]["negative_log_likelihood"]
    assert measured == pytest.approx(-under_second.mean().item(), rel=1e-5)


def test_best_of_n_from_the_chosen_model_by_the_chosen_source(tmp_path: Path) -> None:
    config = make_config(tmp_path, best_of=[4, 1, 2], best_of_model="second", best_of_reward="kindness")
    summary = run(config, tmp_path / "evaluate")
    engine = SecondIsKind.engines[1]
    candidates = engine.asked[len(PROMPTS) :]
    assert [request.prompt_text for request in candidates] == [prompt for prompt in PROMPTS for _ in range(4)]
    assert len({request.seed for request in engine.asked}) == 5 * len(PROMPTS)
    assert len(SecondIsKind.engines[0].asked) == len(PROMPTS)
    samples = [engine.answer(request, config.generation) for request in candidates]
    kind = torch.tensor([float(s.response_text.split().count("kind")) for s in samples]).reshape(-1, 4)
    assert [row["n"] for row in summary["best_of_n"]] == [1, 2, 4]
    assert summary["best_of_n"][0]["scores"]["kindness"] == pytest.approx(kind.mean().item())
    assert summary["best_of_n"][2]["scores"]["kindness"] == pytest.approx(kind.amax(1).mean().item())
    assert set(summary["best_of_n"][1]["scores"]) == {"words", "kindness"}


def test_more_candidates_than_fit_the_memory_are_refused(tmp_path: Path) -> None:
    most = 10**6 // len(PROMPTS)
    with pytest.raises(PlauditError, match=rf"evaluate.best_of: {most + 1:,} responses to each of {len(PROMPTS)} "):
        run(make_config(tmp_path, best_of=[2, most + 1]), tmp_path / "evaluate")
    assert not (tmp_path / "evaluate" / "summary.json").exists()


def test_max_prompts_takes_a_part_that_the_seed_decides(tmp_path: Path) -> None:
    config = make_config(tmp_path, max_prompts=4, samples=10)
    prompts = [sample["prompt"] for sample in run(config, tmp_path / "one")["samples"]]
    assert prompts == [sample["prompt"] for sample in run(config, tmp_path / "two")["samples"]]
    assert len(prompts) == 4
    assert [prompt for prompt in PROMPTS if prompt in prompts] == prompts


def test_repeated_prompts_count_once_and_long_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_prompts(tmp_path / "more.jsonl", [*PROMPTS, PROMPTS[0], "day " * 20])
    prompts = {"sources": [path], "held_out_fraction": 1.0, "max_prompt_tokens": 10}
    summary = run(make_config(tmp_path, prompts=prompts), tmp_path / "evaluate")
    assert (summary["prompts"], summary["prompts_too_long"], summary["prompts_truncated"]) == (len(PROMPTS), 1, 0)
    cutting = make_config(tmp_path, prompts={**prompts, "overlong": "truncate"}, samples=10)
    summary = run(cutting, tmp_path / "cut")
    assert (summary["prompts"], summary["prompts_too_long"], summary["prompts_truncated"]) == (len(PROMPTS) + 1, 0, 1)
    assert "evaluate: prompts too long: 1 dropped, 0 truncated\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"baseline": "third"}, "baseline\n  .*third.*first, second"),
        ({"reference": "third"}, "reference\n  .*third.*first, second"),
        ({"best_of": [1], "best_of_model": "third"}, "best_of_model\n  .*third.*first, second"),
        ({"best_of": [1], "best_of_reward": "gold"}, "best_of_reward\n  .*gold.*words, kindness"),
    ],
)
def test_wrong_names(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_config(tmp_path, **changes)


def test_no_room_for_a_prompt(tmp_path: Path) -> None:
    config = make_config(tmp_path, generation={"max_new_tokens": 64})
    with pytest.raises(PlauditError, match="max_new_tokens: 64 leaves no room for a prompt in 64 tokens"):
        run(config, tmp_path / "evaluate")


def test_too_few_prompts(tmp_path: Path) -> None:
    prompts = {"sources": [save_prompts(tmp_path / "one.jsonl", ["the day"])], "held_out_fraction": 1.0}
    with pytest.raises(PlauditError, match=r"evaluate\.prompts: 1 different prompts .*raise held_out_fraction"):
        run(make_config(tmp_path, prompts=prompts), tmp_path / "evaluate")


def test_models_with_another_vocabulary(tmp_path: Path) -> None:
    other = save_policy(tmp_path / "other", 3, words=[*WORDS, "afternoon"])
    models = {"first": save_policy(tmp_path / "first", 1), "other": other}
    with pytest.raises(PlauditError, match=r"mismatched tokenizers: evaluate\.models\.other .* reference first"):
        run(make_config(tmp_path, models=models), tmp_path / "evaluate", ScriptedEngine)
    rewards = [{"name": "judge", "kind": "model", "path": save_classifier(tmp_path / "judge", ["score"])}]
    with pytest.raises(PlauditError, match="mismatched tokenizers: reward source 'judge'"):
        run(make_config(tmp_path, models=models, rewards=rewards), tmp_path / "evaluate", ScriptedEngine)


@pytest.mark.parametrize("who", ["model", "reward"])
def test_all_models_answer_the_prompts_that_fit_into_every_context(tmp_path: Path, who: str) -> None:
    changes: dict[str, Any]
    if who == "model":
        short = save_policy(tmp_path / "short", 3, max_position_embeddings=9)
        changes = {"models": {"first": save_policy(tmp_path / "first", 1), "short": short}}
    else:
        path = save_tiny(
            tmp_path / "short", "LlamaForSequenceClassification", 3, num_labels=1, max_position_embeddings=9
        )
        changes = {"rewards": [{"name": "judge", "kind": "model", "path": path}]}
    summary = run(make_config(tmp_path, samples=9, **changes), tmp_path / "evaluate", ScriptedEngine)
    fitting = [prompt for prompt in PROMPTS if len(prompt.split()) <= 9 - 6]
    assert [sample["prompt"] for sample in summary["samples"]] == fitting
    assert summary["prompts_too_long"] == len(PROMPTS) - len(fitting) > 0


@pytest.mark.parametrize(
    "changes, described",
    [
        ({}, "7 of 7 held-out prompts"),
        ({"max_prompts": 3}, "3 of 7 held-out prompts, evaluate.max_prompts=3"),
        ({"fraction": 0.6}, "{held_out} of 7 prompts (held_out_fraction=0.6 holds out {held_out})"),
        (
            {"fraction": 0.6, "max_prompts": 2},
            "2 of 7 prompts (held_out_fraction=0.6 holds out {held_out}, evaluate.max_",
        ),
    ],
)
def test_which_part_of_the_prompts_is_used_is_said_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], described: str
) -> None:
    prompts = {
        "sources": [save_prompts(tmp_path / "p.jsonl", PROMPTS)],
        "held_out_fraction": changes.get("fraction", 1.0),
    }
    rows = load_rows(DataConfig.model_validate(prompts), PromptRow, None, 3)
    described = described.format(held_out=len(rows.held_out))
    toxicity = {"classifier": save_classifier(tmp_path / "c", ["fine", "rude"]), "labels": ["rude"]}
    changes = {key: value for key, value in changes.items() if key != "fraction"}
    config = make_config(tmp_path, prompts=prompts, toxicity={**toxicity, "activation": "softmax"}, **changes)
    with caplog.at_level("INFO"):
        summary = run(config, tmp_path / "evaluate", ScriptedEngine)
    assert summary["prompts_used"].startswith(described)
    measure = {"definition": "p of rude (softmax)", "classifier": toxicity["classifier"]}
    assert summary["toxicity_measure"] == {**measure, "prompts_used": summary["prompts_used"]}
    for told in (f"evaluate: {summary['prompts_used']}", f"toxicity of {summary['prompts_used']}: p of rude (softmax)"):
        assert told in caplog.text
    assert summary["prompts_used"] in (tmp_path / "evaluate" / "summary.md").read_text()
    assert summary["prompts_used"] in str(comparison_table(summary).caption)


def test_weights_that_give_nan_are_named_with_the_row(tmp_path: Path) -> None:
    def load(config: ModelConfig, device: torch.device) -> LoadedModel:
        loaded = load_policy(config, device)
        if str(config.path).endswith("second"):
            with torch.no_grad():
                loaded.model.get_output_embeddings().weight[5] = float("nan")
        return loaded

    with pytest.raises(PlauditError, match=r"evaluate\.models\.second: .*response 1 of 7 to .*jsonl line 1 is nan"):
        run(make_config(tmp_path), tmp_path / "evaluate", ScriptedEngine, load=load)


def test_toxicity_of_every_model(tmp_path: Path) -> None:
    classifier = save_classifier(tmp_path / "classifier", ["fine", "rude"])
    toxicity = {"classifier": classifier, "labels": ["rude"], "activation": "softmax"}
    summary = run(make_config(tmp_path, toxicity=toxicity), tmp_path / "evaluate")
    with (tmp_path / "evaluate" / "toxicity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "prompt", "response", "prompt_toxicity", "response_toxicity", "measure"]
    assert {row["measure"] for row in rows} == {"p of rude (softmax)"}
    assert summary["texts_truncated"]["toxicity"]["truncated"] == 0
    for index, name in enumerate(["first", "second"]):
        own = [row for row in rows if row["model"] == name]
        assert [row["response"] for row in own] == [s.response_text for s in answers_of(SecondIsKind.engines[index])]
        mean = sum(float(row["response_toxicity"]) for row in own) / len(own)
        assert summary["toxicity"][name]["mean"] == pytest.approx(mean)


def test_toxicity_with_separate_prompts(tmp_path: Path) -> None:
    classifier = save_classifier(tmp_path / "classifier", ["fine", "rude"])
    prompts = {"sources": [save_prompts(tmp_path / "rude.jsonl", ["rude night", "rude day"])], "held_out_fraction": 1.0}
    toxicity = {"classifier": classifier, "labels": ["rude"], "activation": "softmax", "prompts": prompts}
    run(make_config(tmp_path, toxicity=toxicity), tmp_path / "evaluate")
    with (tmp_path / "evaluate" / "toxicity.csv").open() as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == ["rude night", "rude day"] * 2


def test_with_the_engine_that_runs_use(tmp_path: Path) -> None:
    """Two copies of one model give equal answers and are freed, and the KL uses their sampled log-probabilities."""
    model = save_policy(tmp_path / "first", 1)
    config = make_config(tmp_path, models={"first": model, "copy": model}, best_of=[1, 2])
    alive: list[Any] = []

    def load(config: ModelConfig, device: torch.device) -> LoadedModel:
        assert all(found() is None for found in alive)
        loaded = load_policy(config, device)
        alive.append(weakref.ref(loaded.model))
        return loaded

    summary = evaluate(
        config, tmp_path / "evaluate", seed=3, processes=ALONE, simulated=True, cache=DataCache(tmp_path), load=load
    )
    assert summary["simulated"] is True
    assert summary["models"]["copy"]["kl"]["mean"] == 0.0
    assert summary["models"]["copy"]["win_rate"]["words"]["rate"] == 0.5
    assert all(len({r["text"] for r in sample["responses"].values()}) == 1 for sample in summary["samples"])
    assert summary["models"]["first"]["length"] > 1
