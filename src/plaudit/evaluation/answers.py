"""Each model's responses to the evaluation's prompts. Models are in memory one at a time.

Every process holds the model and works on its shard of the prompts; all processes get all results.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TypeVar

import torch
from torch import Tensor

from plaudit.config.schema import EvaluateConfig, ModelConfig
from plaudit.data.rows import PromptRow
from plaudit.data.templates import BYPASSED
from plaudit.errors import PlauditError
from plaudit.evaluation.prompts import Asked, make_requests
from plaudit.memory import responses_at_once
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel
from plaudit.parallel.processes import Processes
from plaudit.rewards.grouping import padded_positions, samples_to_trees
from plaudit.rewards.sources import ComposedReward
from plaudit.rewards.trained_model import same_vocabulary
from plaudit.rollouts.engines.model_engine import MakeEngine, ModelEngine
from plaudit.rollouts.samples import Request, Sample

logger = logging.getLogger(__name__)
LOWEST_MEAN = -700.0

LoadModel = Callable[[ModelConfig, torch.device], LoadedModel]
OfAPrompt = TypeVar("OfAPrompt", Request, Sample)
Result = TypeVar("Result")


@dataclass(frozen=True)
class EvaluationContext:
    """Everything needed to answer prompts: the stage's configuration and prompts, and how to build engines.

    ``toxicity_rows`` are separate prompts for the toxicity measurement; empty if it uses the evaluation's. ``longest``
    is the number of tokens of a prompt with its response that every model and reward source can read.
    """

    config: EvaluateConfig
    rows: Sequence[PromptRow]
    toxicity_rows: Sequence[PromptRow]
    longest: int
    seed: int
    processes: Processes
    load: LoadModel
    make_engine: MakeEngine


@dataclass(frozen=True)
class Answers:
    """A model's samples, one per prompt, with the log-probabilities of its tokens and the scores of every source.

    ``log_probabilities`` holds one tensor [response length] per sample, at temperature 1; ``scores`` [prompts] per
    source. ``candidates`` are the samples for best-of-N, grouped by prompt; ``toxicity_samples`` the responses to
    the separate toxicity prompts. ``tokenizer`` is the model's, ``truncated`` the number of prompts that were cut.
    """

    samples: list[Sample]
    log_probabilities: list[Tensor]
    scores: dict[str, Tensor]
    tokenizer: object
    truncated: int
    candidates: list[Sample] = field(default_factory=list)
    toxicity_samples: list[Sample] = field(default_factory=list)


def answer(name: str, context: EvaluationContext, reward: ComposedReward, candidates: int) -> Answers:
    """Load model ``name``, answer every prompt, score the answers and release the model.

    For best-of-N, ``candidates`` further samples per prompt are drawn. Every model gets the same settings and the same
    seeds, so two equal models give equal responses.
    """
    config, seed = context.config, context.seed
    loaded = context.load(config.models[name], context.processes.device)
    reward.check_tokenizer(loaded.tokenizer)
    asked = make_requests(context.rows, loaded, config.prompts, config.generation, (seed, "evaluate"), context.longest)
    if context.processes.is_main:
        _log_prompts(name, asked)
    if not asked.requests:
        raise PlauditError(
            f"evaluate.models.{name}: no prompt fits into its context; lower evaluate.generation.max_new_tokens or set "
            "evaluate.prompts.overlong=truncate"
        )
    with closing(ModelEngine(context.make_engine, loaded)) as engine:
        engine.update(0)
        samples = _generated(engine, asked.requests, context)
        of_candidates = _candidates(engine, loaded, context, candidates)
        of_toxicity = _toxicity_samples(engine, loaded, context)
        engine.release()  # closing does not free the memory of servers that were running before
    answers = Answers(
        samples,
        _log_probabilities(loaded, samples, context, f"evaluate.models.{name}"),
        scores_by_source(reward, samples, context.processes),
        loaded.tokenizer,
        asked.truncated,
        of_candidates,
        of_toxicity,
    )
    del loaded, engine
    _give_back_cached_memory()
    return answers


def _log_prompts(name: str, asked: Asked) -> None:
    if asked.dropped or asked.truncated:
        logger.info("evaluate: prompts too long: %d dropped, %d truncated", asked.dropped, asked.truncated)
    for what, number in asked.counted.items():
        logger.log(logging.INFO if what == BYPASSED else logging.WARNING, "evaluate: %s: %d %s", name, number, what)


def reference_log_probabilities(
    context: EvaluationContext, reference: str, answers: Mapping[str, Answers]
) -> dict[str, list[Tensor]]:
    """Return, for every model, the log-probabilities of its samples' tokens under the reference at temperature 1.

    Raises PlauditError for a model whose token ids the reference cannot read.
    """
    loaded = context.load(context.config.models[reference], context.processes.device)
    found = {}
    for name, own in answers.items():
        if not same_vocabulary(own.tokenizer, loaded.tokenizer):
            raise PlauditError(
                f"mismatched tokenizers: evaluate.models.{name} does not share the vocabulary of the reference "
                f"{reference}, so KL and perplexity would be meaningless; compare models with the same tokenizer"
            )
        who = f"evaluate.models.{reference}, the reference, on the responses of {name}"
        found[name] = _log_probabilities(loaded, own.samples, context, who)
    del loaded
    _give_back_cached_memory()
    return found


def _give_back_cached_memory() -> None:
    # Dropping the last reference frees the weights, but CUDA's allocator keeps the memory until its cache is emptied.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def scores_by_source(reward: ComposedReward, samples: Sequence[Sample], processes: Processes) -> dict[str, Tensor]:
    """Return the scores [samples] of every source, each process scoring its shard."""

    def score(own: Sequence[Sample]) -> list[list[float]]:
        return torch.stack(list(reward.score(own).each.values()), dim=1).tolist()

    columns = torch.tensor(in_shards(samples, processes, score)).unbind(dim=1)
    return dict(zip(reward.names, columns, strict=True))


def in_shards(
    items: Sequence[OfAPrompt], processes: Processes, work: Callable[[Sequence[OfAPrompt]], Sequence[Result]]
) -> list[Result]:
    """Return ``work(items)``, a result for each item, with the items sharded over the processes.

    Consecutive items of one prompt stay together, so that a prompt is computed once. ``work`` is never called
    with no items.
    """
    groups = [list(group) for _, group in groupby(items, key=lambda item: item.prompt_ids)]
    own = processes.shard(groups)
    results = iter(work(list(chain.from_iterable(own))) if own else [])
    return list(chain.from_iterable(processes.merge_shards([[next(results) for _ in group] for group in own])))


def _generated(engine: ModelEngine, requests: Sequence[Request], context: EvaluationContext) -> list[Sample]:
    settings = context.config.generation
    return in_shards(requests, context.processes, lambda own: engine.generate(own, settings))


def _log_probabilities(
    loaded: LoadedModel, samples: Sequence[Sample], context: EvaluationContext, who: str
) -> list[Tensor]:
    """Return the log-probabilities of every response's tokens. Raises PlauditError, which begins with ``who``.

    A mean below ``LOWEST_MEAN`` is an error as well as NaN: its perplexity is beyond floats.
    """

    def compute(own: Sequence[Sample], rows: int) -> list[Tensor]:
        trees = samples_to_trees(own, most_responses=rows)
        return token_log_probabilities(loaded, trees, temperature=1.0, token_budget=padded_positions(own, rows))

    size = responses_at_once(
        context.config.generation.batch_size, "log-probabilities", "use a smaller model, or shorter responses"
    )
    found = in_shards(samples, context.processes, lambda own: size.run(lambda rows: compute(own, rows), len(own)))
    for number, (sample, values) in enumerate(zip(samples, found, strict=True), start=1):
        if len(values) and not values.mean() >= LOWEST_MEAN:
            place = f" to {sample.origin.source} line {sample.origin.line}" if sample.origin else ""
            raise PlauditError(
                f"{who}: the mean log-probability of the tokens of response {number} of {len(samples)}{place} is "
                f"{values.mean():.6g}; check the weights of the model"
            )
    return found


def _candidates(engine: ModelEngine, loaded: LoadedModel, context: EvaluationContext, number: int) -> list[Sample]:
    config = context.config
    key = (context.seed, "best of n")
    asked = make_requests(
        context.rows, loaded, config.prompts, config.generation, key, context.longest, responses=number
    )
    return _generated(engine, asked.requests, context)


def _toxicity_samples(engine: ModelEngine, loaded: LoadedModel, context: EvaluationContext) -> list[Sample]:
    config = context.config
    if config.toxicity is None or config.toxicity.prompts is None:
        return []
    key = (context.seed, "toxicity")
    rows, prompts = context.toxicity_rows, config.toxicity.prompts
    asked = make_requests(rows, loaded, prompts, config.generation, key, context.longest)
    return _generated(engine, asked.requests, context)
