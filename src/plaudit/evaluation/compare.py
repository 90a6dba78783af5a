"""Compares models on the same held-out prompts: scores, win rates, KL to the reference, texts."""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.config.schema import EvaluateConfig
from plaudit.config.schema.base import MOST_RESPONSES
from plaudit.data.store.cache import DataCache
from plaudit.errors import PlauditError
from plaudit.evaluation.answers import (
    Answers,
    EvaluationContext,
    LoadModel,
    answer,
    reference_log_probabilities,
    scores_by_source,
)
from plaudit.evaluation.best_of_n import best_of_n
from plaudit.evaluation.prompts import Selection, as_trained, held_out_prompts
from plaudit.evaluation.statistics import distinct_n, mean_with_error, win_rate
from plaudit.evaluation.summary import csv_text, write_summary
from plaudit.evaluation.toxicity import ToxicityMeter, summarize_toxicity, toxicity_table
from plaudit.files import write_atomically
from plaudit.models.loading.limits import configured_context_length
from plaudit.models.loading.models import load_policy
from plaudit.parallel.processes import Processes
from plaudit.rewards.sources import ComposedReward, build_reward
from plaudit.rewards.truncation import merged_counts
from plaudit.rollouts.engines.build import build_engine
from plaudit.rollouts.engines.model_engine import MakeEngine
from plaudit.rollouts.samples import Sample
from plaudit.runs.progress import StageProgress

logger = logging.getLogger(__name__)


def evaluate(
    config: EvaluateConfig,
    folder: Path,
    seed: int,
    processes: Processes,
    simulated: bool,
    cache: DataCache,
    load: LoadModel = load_policy,
    make_engine: MakeEngine | None = None,
) -> dict[str, Any]:
    """Measure the models of ``config``, write the tables into ``folder`` and return the summary.

    All ``processes`` share the work; the summary equals that of a single process, up to rounding. ``seed`` is the
    run's: it determines which prompts are held out and what is sampled. ``simulated``: whether texts and annotators are
    simulated by code. ``cache`` keeps the prompts. ``write_summary`` documents the summary. Raises PlauditError.
    """
    written = folder if processes.is_main else None
    given = config.prompts
    config = config.model_copy(update={"prompts": as_trained(given, config.models)})
    reward = build_reward(config.rewards, processes.device)
    meter = None if config.toxicity is None else ToxicityMeter(config.toxicity, processes, config.generation.batch_size)
    rejects = written and written / "rejects.jsonl"
    chosen = held_out_prompts(given, config.max_prompts, seed, rejects, "evaluate.prompts", cache)
    toxicity = _toxicity_prompts(config, seed, written, cache) or chosen
    if processes.is_main:
        logger.info("evaluate: %s", chosen.described)
        if meter is not None:
            logger.info("evaluate: toxicity of %s: %s", toxicity.described, meter.definition)
    if (number := len(chosen.rows) * max(config.best_of, default=0)) > MOST_RESPONSES:
        raise PlauditError(
            f"evaluate.best_of: {max(config.best_of):,} responses to each of {len(chosen.rows):,} prompts are "
            f"{number:,}, but the limit is {MOST_RESPONSES:,}; lower it, or evaluate.max_prompts"
        )
    engines = make_engine or partial(build_engine, config.generation.engine, processes=processes)
    longest = min(reward.context_length, *map(configured_context_length, config.models.values()))
    separate = [] if toxicity is chosen else toxicity.rows
    context = EvaluationContext(config, chosen.rows, separate, longest, seed, processes, load, engines)
    answers = _answers_of_all(context, reward)
    summary = {"simulated": simulated, "prompts_used": chosen.described, **_summary(context, reward, answers)}
    if meter is not None:
        summary["toxicity"] = _toxicity(meter, answers, written)
        summary["toxicity_measure"] = {
            "definition": meter.definition,
            "classifier": meter.config.classifier.path,
            "prompts_used": toxicity.described,
        }
    summary["texts_truncated"] = _truncated_texts(reward, meter, processes)
    if written is not None:
        write_summary(summary, written)
    return summary


def _summary(context: EvaluationContext, reward: ComposedReward, answers: Mapping[str, Answers]) -> dict[str, Any]:
    config, baseline = context.config, answers[context.config.baseline]
    reference = config.reference or config.baseline
    under_reference = reference_log_probabilities(context, reference, answers)
    return {
        "prompts": len(baseline.samples),
        "prompts_too_long": len(context.rows) - len(baseline.samples),
        "prompts_truncated": baseline.truncated,
        "baseline": config.baseline,
        "reference": reference,
        "reward_sources": reward.names,
        "generation": config.generation.model_dump(),
        "models": {
            name: measures(own, under_reference[name], None if own is baseline else baseline)
            for name, own in answers.items()
        },
        "best_of_n": _best_of_n(context, reward, answers),
        "samples": side_by_side(answers, config.samples),
    }


def measures(own: Answers, under_reference: Sequence[Tensor], baseline: Answers | None) -> dict[str, Any]:
    """Return the summary's numbers for one model; ``baseline`` is None for the baseline itself.

    KL is estimated by the mean over responses of ``sum_t log p(token_t) - log p_reference(token_t)``, which is unbiased
    for responses sampled at temperature 1 without top-k and top-p. With other settings it does not estimate the KL.
    """
    log_ratios = [mine.sum() - its.sum() for mine, its in zip(own.log_probabilities, under_reference, strict=True)]
    nll = -torch.cat(list(under_reference)).double().mean().item()
    texts = [sample.response_text for sample in own.samples]
    found: dict[str, Any] = {"scores": {name: mean_with_error(scores) for name, scores in own.scores.items()}}
    if baseline is not None:
        found["win_rate"] = {name: win_rate(scores, baseline.scores[name]) for name, scores in own.scores.items()}
    return found | {
        "kl": mean_with_error(torch.stack(log_ratios)),
        "negative_log_likelihood": nll,
        "perplexity": math.exp(nll),
        "length": sum(len(sample.response_ids) for sample in own.samples) / len(own.samples),
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "ended_fraction": sum(sample.ended for sample in own.samples) / len(own.samples),
    }


def side_by_side(answers: Mapping[str, Answers], number: int) -> list[dict[str, Any]]:
    """Return the first ``number`` prompts with every model's response and its scores."""
    prompts = [sample.prompt_text for sample in next(iter(answers.values())).samples[:number]]
    return [
        {"prompt": prompt, "responses": {name: _response(own, index) for name, own in answers.items()}}
        for index, prompt in enumerate(prompts)
    ]


def _response(own: Answers, index: int) -> dict[str, Any]:
    scores = {name: values[index].item() for name, values in own.scores.items()}
    return {"text": own.samples[index].response_text, "scores": scores}


def _answers_of_all(context: EvaluationContext, reward: ComposedReward) -> dict[str, Answers]:
    config = context.config
    answers: dict[str, Answers] = {}
    with StageProgress("evaluate", len(config.models), enabled=context.processes.is_main) as progress:
        for step, name in enumerate(config.models, start=1):
            wanted = max(config.best_of, default=0) if name == (config.best_of_model or config.baseline) else 0
            answers[name] = answer(name, context, reward, wanted)
            _refuse_other_prompts(name, answers[name].samples, answers)
            mean = answers[name].scores[reward.names[0]].mean().item()
            progress.update(step, f"{name} {reward.names[0]} {mean:.4g}")
    return answers


def _refuse_other_prompts(name: str, samples: Sequence[Sample], answers: Mapping[str, Answers]) -> None:
    first_name, first = next(iter(answers.items()))
    if [sample.prompt_text for sample in samples] != [sample.prompt_text for sample in first.samples]:
        raise PlauditError(
            f"evaluate.models.{name}: {len(samples)} prompts fit into its context, but {len(first.samples)} into that "
            f"of {first_name}; lower evaluate.prompts.max_prompt_tokens so that all fit into both"
        )


def _best_of_n(
    context: EvaluationContext, reward: ComposedReward, answers: Mapping[str, Answers]
) -> list[dict[str, Any]]:
    config = context.config
    if not config.best_of:
        return []
    candidates = answers[config.best_of_model or config.baseline].candidates
    each = scores_by_source(reward, candidates, context.processes)
    scores = {name: column.reshape(-1, max(config.best_of)) for name, column in each.items()}
    return best_of_n(scores, config.best_of_reward or reward.names[0], sorted(set(config.best_of)))


def _toxicity_prompts(config: EvaluateConfig, seed: int, folder: Path | None, cache: DataCache) -> Selection | None:
    if config.toxicity is None or config.toxicity.prompts is None:
        return None
    rejects = folder and folder / "toxicity_rejects.jsonl"
    place = "evaluate.toxicity.prompts"
    return held_out_prompts(config.toxicity.prompts, config.max_prompts, seed, rejects, place, cache)


def _truncated_texts(
    reward: ComposedReward, meter: ToxicityMeter | None, processes: Processes
) -> dict[str, dict[str, int]]:
    """Return how many ``texts`` each classifier has read and how many of them it ``truncated``; log the latter."""
    counts = reward.take_counts() | ({} if meter is None else {"toxicity": meter.classifier.take_counts()})
    found = {name: merged_counts(own, processes) for name, own in counts.items()}
    for name, own in found.items():
        if own.truncated and processes.is_main:
            logger.warning("evaluate: %s: %d of %d texts were truncated", name, own.truncated, own.texts)
    return {name: vars(own) for name, own in found.items()}


def _toxicity(meter: ToxicityMeter, answers: Mapping[str, Answers], folder: Path | None) -> dict[str, dict[str, float]]:
    """Measure every model, write all rows to ``toxicity.csv`` in ``folder`` and return each model's summary."""
    import pandas

    tables = {name: toxicity_table(meter, own.toxicity_samples or own.samples) for name, own in answers.items()}
    if folder is not None:
        together = pandas.concat(tables, names=["model"]).reset_index(level="model")
        write_atomically(folder / "toxicity.csv", csv_text(together.to_dict("records")))
    return {name: summarize_toxicity(table) for name, table in tables.items()}
