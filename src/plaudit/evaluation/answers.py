"""What one model does on the evaluation's prompts. Models come into memory one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plaudit.config.schema import EvaluateConfig, ModelConfig
from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.evaluation.prompts import make_requests
from plaudit.memory import responses_at_once
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel
from plaudit.rewards.grouping import padded_positions, samples_to_trees
from plaudit.rewards.sources import ComposedReward
from plaudit.rewards.trained_model import same_vocabulary
from plaudit.rollouts.samples import Engine, Sample

LoadModel = Callable[[ModelConfig, torch.device], LoadedModel]
MakeEngine = Callable[[LoadedModel], Engine]


@dataclass(frozen=True)
class EvaluationContext:
    """What it takes to answer prompts: the stage's configuration and prompts, and how models become engines.

    ``toxicity_rows`` are prompts of the toxicity meter's own; empty where it uses the evaluation's.
    """

    config: EvaluateConfig
    rows: Sequence[PromptRow]
    toxicity_rows: Sequence[PromptRow]
    seed: int
    device: torch.device
    load: LoadModel
    make_engine: MakeEngine


@dataclass(frozen=True)
class Answers:
    """A model's samples, one per prompt, with the log-probabilities of its tokens and the scores of every source.

    ``log_probabilities`` holds one tensor [response length] per sample, at temperature 1; ``scores`` [prompts] per
    source. ``candidates`` are the samples of best-of-N, prompt after prompt; ``toxicity_samples`` the answers to the
    toxicity meter's own prompts. ``tokenizer`` is the model's, ``truncated`` the number of prompts that were cut.
    """

    samples: list[Sample]
    log_probabilities: list[Tensor]
    scores: dict[str, Tensor]
    tokenizer: object
    truncated: int
    candidates: list[Sample] = field(default_factory=list)
    toxicity_samples: list[Sample] = field(default_factory=list)


def answer(name: str, context: EvaluationContext, reward: ComposedReward, candidates: int) -> Answers:
    """Load model ``name``, answer every prompt, score the answers and forget the model.

    ``candidates`` samples per prompt are drawn for best-of-N besides. Every model gets the same settings and the same
    seeds, so two equal models give equal answers.
    """
    config, seed = context.config, context.seed
    loaded = context.load(config.models[name], context.device)
    reward.check_tokenizer(loaded.tokenizer)
    engine = context.make_engine(loaded)
    asked = make_requests(context.rows, loaded, config.prompts, config.generation, (seed, "evaluate"))
    samples = engine.generate(asked.requests, config.generation)
    answers = Answers(
        samples,
        _log_probabilities(loaded, samples, config.generation.batch_size),
        reward.score(samples).each,
        loaded.tokenizer,
        asked.truncated,
        _candidates(engine, loaded, context, candidates),
        _toxicity_samples(engine, loaded, context),
    )
    del loaded, engine
    _give_back_cached_memory()
    return answers


def reference_log_probabilities(
    context: EvaluationContext, reference: str, answers: Mapping[str, Answers]
) -> dict[str, list[Tensor]]:
    """Return, for every model, the log-probabilities of its samples' tokens under the reference at temperature 1.

    Raises PlauditError for a model whose token ids the reference cannot read.
    """
    loaded = context.load(context.config.models[reference], context.device)
    found = {}
    for name, own in answers.items():
        if not same_vocabulary(own.tokenizer, loaded.tokenizer):
            raise PlauditError(
                f"mismatched tokenizers: evaluate.models.{name} does not share the vocabulary of the reference "
                f"{reference}, so KL and perplexity mean nothing; compare models with the same tokenizer"
            )
        found[name] = _log_probabilities(loaded, own.samples, context.config.generation.batch_size)
    del loaded
    _give_back_cached_memory()
    return found


def _give_back_cached_memory() -> None:
    # Weights are freed with the last reference to them, but CUDA's allocator keeps the memory to itself.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _log_probabilities(loaded: LoadedModel, samples: Sequence[Sample], rows: int) -> list[Tensor]:
    def compute(rows: int) -> list[Tensor]:
        trees = samples_to_trees(samples, most_responses=rows)
        return token_log_probabilities(loaded, trees, temperature=1.0, token_budget=padded_positions(samples, rows))

    return responses_at_once(rows, "log-probabilities", "use a smaller model, or shorter responses").run(
        compute, len(samples)
    )


def _candidates(engine: Engine, loaded: LoadedModel, context: EvaluationContext, number: int) -> list[Sample]:
    config = context.config
    key = (context.seed, "best of n")
    requests = make_requests(context.rows, loaded, config.prompts, config.generation, key, responses=number).requests
    return engine.generate(requests, config.generation) if requests else []


def _toxicity_samples(engine: Engine, loaded: LoadedModel, context: EvaluationContext) -> list[Sample]:
    config = context.config
    if config.toxicity is None or config.toxicity.prompts is None:
        return []
    key = (context.seed, "toxicity")
    asked = make_requests(context.toxicity_rows, loaded, config.toxicity.prompts, config.generation, key)
    return engine.generate(asked.requests, config.generation)
