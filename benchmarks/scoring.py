"""Compares scoring several responses to each prompt: Plaudit's packed trees and transformers' padded rows.

The same reward model with random weights runs in two ways: as ``plaudit.models.reward_model.RewardModel``, which
computes a prompt once for all its responses, and as transformers loads it, over rows of prompt and response, sorted by
length and padded. By default prompts have 105 to 128 tokens and responses 40 to 56. Both run under bfloat16 autocast;
their scores must agree up to rounding.

    python benchmarks/scoring.py --prompts 16 --responses 8 --repeats 3
    python benchmarks/scoring.py --prompt-tokens 256 400 --response-tokens 20 40
"""

import argparse
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from comparison.materials import make_data, make_models
from comparison.options import common_options, parsed, positive
from comparison.table import print_table
from comparison.turns import by_turns, timed
from torch import Tensor

from plaudit.batching.trees import PromptTree

TOLERANCE = 0.05  # root of the mean squared difference, in standard deviations of the scores

Scoring = Callable[[], Tensor]


def main() -> None:
    """Compare and print a table."""
    options = _options()
    models = make_models(options.data, options.model)
    with TemporaryDirectory() as name:
        pairs = make_data("scoring", options.data, models, options.prompts, Path(name), options.prompt_tokens)
        others = make_data("reward", options.data, models, options.prompts * options.responses, Path(name))
    trees = with_responses(pairs, others, options.responses, options.response_tokens)
    sides = {
        "plaudit": _plaudit(options, models / "scorer", trees),
        "transformers": _transformers(options, models / "scorer", trees),
    }
    with torch.autocast(options.device, torch.bfloat16):
        print(f"scores differ by {difference(*(score() for score in sides.values())):.4f} standard deviations")
        turns = {side: timed(_counted(score), options.device) for side, score in sides.items()}
        rounds = by_turns(turns, options.repeats)
    print_table(f"scoring, {options.responses} responses to each prompt", options, "responses", rounds)


def _options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("--prompts", type=positive, default=16)
    parser.add_argument("--responses", type=positive, default=8, help="responses to each prompt")
    for name, usual in (("prompt", (105, 128)), ("response", (40, 56))):
        parser.add_argument(
            f"--{name}-tokens",
            type=positive,
            nargs=2,
            default=usual,
            metavar=("LEAST", "MOST"),
            help=f"number of tokens of a {name}",
        )
    parser.add_argument("--token-budget", type=positive, default=2048, help="positions per forward pass of Plaudit")
    parser.add_argument("--peer-batch", type=positive, default=32, help="rows per forward pass of transformers")
    return parsed(parser)


def with_responses(
    prompts: list[PromptTree], others: list[PromptTree], count: int, tokens: tuple[int, int]
) -> list[PromptTree]:
    """Return the prompts with ``count`` responses each from ``others``, with a length in the range ``tokens``."""
    least, most = tokens
    fitting = [response for tree in others for response in tree.responses if least <= len(response) <= most]
    if not fitting:
        raise SystemExit(f"data: no response of {least} to {most} tokens among {len(others)} pairs")
    endless = cycle(fitting)
    return [PromptTree(tree.prompt, tuple(islice(endless, count))) for tree in prompts]


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the difference of two lists of scores, in standard deviations. Ends the program if it is too large."""
    apart = float((ours - theirs).square().mean().sqrt() / ours.std())
    if not apart <= TOLERANCE:  # also true for NaN
        raise SystemExit(
            f"the two sides do not compute the same scores: they differ by {apart:.3f} standard deviations"
        )
    return apart


def _counted(score: Scoring) -> Callable[[], int]:
    return lambda: len(score())


def _plaudit(options: argparse.Namespace, path: Path, trees: list[PromptTree]) -> Scoring:
    from plaudit.config.schema import ModelConfig
    from plaudit.models.reward_model import load_reward_model

    model = load_reward_model(ModelConfig(path=str(path)), torch.device(options.device))
    if model.loaded.layout.name != "packed":
        raise SystemExit(f"this model is not packed: {model.loaded.acceleration}")
    return lambda: model.raw_scores(trees, options.token_budget)


def _transformers(options: argparse.Namespace, path: Path, trees: list[PromptTree]) -> Scoring:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="right")
    model: Any = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    model = model.to(options.device).eval()
    rows = [[*tree.prompt, *response] for tree in trees for response in tree.responses]
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))

    @torch.inference_mode()
    def score() -> Tensor:
        scores = torch.zeros(len(rows))
        for start in range(0, len(rows), options.peer_batch):
            part = order[start : start + options.peer_batch]
            inputs = tokenizer.pad({"input_ids": [rows[row] for row in part]}, return_tensors="pt")
            scores[part] = model(**inputs.to(options.device), use_cache=False).logits[:, 0].float().cpu()
        return scores

    return score


if __name__ == "__main__":
    main()
