"""Measures how the cost of a step grows with its sizes, compared with the peak rate of matrix products.

The sweeps use trees of random tokens unless stated otherwise, and a randomly initialized model:

- context: a step of the reward model over pairs of 128 to 4,096 positions, prompt a half, each response a quarter
- batch: a step of the reward model over 4 to 64 pairs of 224 positions
- vocabulary: a step of SFT, rows of 128 prompt and 128 response tokens, vocabulary 8,192 to 131,072
- ranking: a step of the reward model, 2 to 16 ranked responses of 48 tokens to prompts of 120
- scoring: a pass of the reward model over 1 to 16 responses of 48 tokens to prompts of 120
- grpo: an iteration of GRPO with sampling, 2 to 16 responses of 48 tokens to prompts of 120
- stages: whole steps of reward model, SFT and DPO over pairs, and an iteration of PPO, 8 responses to each
  prompt as in grpo

Arithmetic counts 2 operations for each parameter of a linear layer at each position of the forward pass, the last
block's MLP and the head at the rows that need them, and attention over the pairs of tokens that see each other; three
times that for a training step. The fraction is relative to the rate of a large square product in bfloat16, measured in
the same process.

    python benchmarks/growth.py context --repeats 3
    python benchmarks/growth.py stages --clock cpu
"""

import argparse
import gc
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from comparison.arithmetic import product_rate
from comparison.materials import SEED, SHAPES, make_data, make_models
from comparison.meter import Meter
from comparison.options import common_options, parsed, positive
from comparison.steps import Step, Steps

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import ModelConfig

CONTEXT = 4096
PROMPT, RESPONSE = 120, 48  # tokens, about those of hh-rlhf
Points = Iterator[tuple[str, Step]]


def main() -> None:
    """Measure one sweep and print a table."""
    options = _options()
    with TemporaryDirectory() as folder:
        steps = Steps(Path(folder), options.device, options.threads, options.token_budget)
        rate = product_rate(options.device, options.threads, options.clock)
        print(f"{options.sweep}, model {options.model}, {options.device}, {options.threads} thread(s), {options.clock}")
        print(f"matrix products in bfloat16: {rate / 1e9:.0f} GFLOP/s")
        heads = ("positions", "responses", "s", "(least, most)", "µs/position", "ms/response", "share")
        print(COLUMNS.format(options.sweep, *heads))
        for label, step in SWEEPS[options.sweep](options, steps, Path(folder)):
            _measure(label, step, rate, options)
            del step  # its model, before the next is made
            gc.collect()


def _options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("sweep", choices=tuple(SWEEPS))
    parser.add_argument(
        "--positions", type=positive, default=8192, help="approximate number of token positions per step"
    )
    parser.add_argument("--most", type=positive, help="end the sweep at this value")
    parser.add_argument("--token-budget", type=positive, default=2048, help="positions per forward pass")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: CPU time divided by the number of threads, for a busy machine",
    )
    return parsed(parser)


# Sweeps --------------------------------------------------------------------------------------------------------------


def _context(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    for length in _doubled(128, CONTEXT, options.most):
        shape = [(length // 2, (length // 4, length // 4))] * max(1, options.positions // length)
        yield str(length), steps.reward(model_config(options), random_trees(shape))


def _batch(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    for count in _doubled(4, 64, options.most):
        shape = [(128, (RESPONSE, RESPONSE))] * count
        yield str(count), steps.reward(model_config(options), random_trees(shape))


def _vocabulary(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    trees = random_trees([(128, (128,))] * max(1, options.positions // 256))
    for size in _doubled(8192, 131072, options.most):
        yield str(size), steps.sft(model_config(options, vocab_size=size), trees)


def _ranking(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    for count in _doubled(2, 16, options.most):
        trees = _groups(options, count)
        yield str(count), steps.reward(model_config(options), trees)


def _scoring(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    for count in _doubled(1, 16, options.most):
        trees = _groups(options, count)
        yield str(count), steps.scoring(model_config(options), trees)


def _grpo(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    for count in _doubled(2, 16, options.most):
        trees = _groups(options, count)
        yield str(count), steps.grpo(model_config(options), trees, RESPONSE)


def _stages(options: argparse.Namespace, steps: Steps, folder: Path) -> Points:
    models = make_models(options.data, options.model)
    makers = {"reward": steps.reward, "sft": steps.sft, "dpo": steps.dpo}
    for stage, make in makers.items():
        count = max(1, options.positions // 240)  # positions of a typical pair
        trees = make_data(stage, options.data, models, count, folder)
        yield stage, make(model_config(options), trees)
    yield "ppo", steps.ppo(model_config(options), _groups(options, 8), RESPONSE)


SWEEPS: dict[str, Callable[[argparse.Namespace, Steps, Path], Points]] = {
    "context": _context,
    "batch": _batch,
    "vocabulary": _vocabulary,
    "ranking": _ranking,
    "scoring": _scoring,
    "grpo": _grpo,
    "stages": _stages,
}


def _doubled(first: int, last: int, most: int | None) -> Iterator[int]:
    while first <= min(last, most or last):
        yield first
        first *= 2


def _groups(options: argparse.Namespace, count: int) -> list[PromptTree]:
    prompts = max(1, options.positions // (PROMPT + count * RESPONSE))
    return random_trees([(PROMPT, (RESPONSE,) * count)] * prompts)


def random_trees(lengths: Sequence[tuple[int, tuple[int, ...]]]) -> list[PromptTree]:
    """Return trees of random tokens, for (tokens of the prompt, tokens of each response)."""
    generator = random.Random(SEED)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(2, 8192) for _ in range(count))

    return [PromptTree(tokens(prompt), tuple(map(tokens, responses))) for prompt, responses in lengths]


def model_config(options: argparse.Namespace, **changes: Any) -> ModelConfig:
    """Return the chosen model, with random weights and a context long enough for all sweeps."""
    architecture, shape = SHAPES[options.model]
    positions = {"gpt2": "n_positions"}.get(architecture, "max_position_embeddings")
    return ModelConfig.model_validate(
        {
            "fresh": {"architecture": architecture, "options": shape | {positions: CONTEXT} | changes},
            "tokenizer": str(make_models(options.data, options.model) / "policy"),
        }
    )


# The table -----------------------------------------------------------------------------------------------------------

COLUMNS = "{:>12}{:>11}{:>11}{:>10}{:>18}{:>14}{:>14}{:>9}"


def _measure(label: str, step: Step, rate: float, options: argparse.Namespace) -> None:
    step.run()
    taken = []
    for _ in range(options.repeats):
        meter = Meter(options.device)
        meter.start()
        step.run()
        meter.stop()
        taken.append(meter.seconds if options.clock == "wall" else meter.cpu_seconds / options.threads)
    middle = median(taken)
    numbers = (
        f"{middle:.2f}",
        f"({min(taken):.2f}, {max(taken):.2f})",
        f"{middle / step.positions * 1e6:.0f}",
        f"{middle / step.responses * 1e3:.1f}",
        f"{step.operations / middle / rate:.0%}",
    )
    print(COLUMNS.format(label, step.positions, step.responses, *numbers), flush=True)


if __name__ == "__main__":
    main()
