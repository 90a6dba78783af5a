"""Shows where a stage spends its time: phases by wall clock, operators by torch's profiler.

Runs steps over pairs or prompts (reinforcement learning: iterations with sampling) with a randomly initialized model,
after one warm-up step. The time of a phase within another phase counts only for the inner one.

    python benchmarks/breakdown.py reward
    python benchmarks/breakdown.py ppo --rows 8 --responses 8
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from comparison.materials import make_data, make_models
from comparison.options import common_options, parsed, positive
from comparison.steps import Step, Steps
from growth import model_config
from torch.profiler import profile, record_function

from plaudit.batching.trees import PromptTree
from plaudit.models.acceleration import tree_attention as attention

DECODING = "plaudit::decode"
STAGES = ("reward", "sft", "dpo", "grpo", "ppo", "scoring")
PARTS = {
    "products of linear layers": ("mm", "addmm", "mkldnn::_linear_pointwise"),
    "products of attention": ("bmm", "baddbmm", DECODING),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "copies and casts": ("copy_", "cat", "index", "index_copy_", "index_select", "gather", "clone"),
    "optimizer and gradient norm": ("_fused_adamw_", "linalg_vector_norm", "_foreach_norm", "_foreach_mul_"),
    "multiplications": ("mul", "mul_", "div", "div_", "neg"),
    "additions": ("add", "add_", "sub", "sub_", "sum", "mean"),
    "powers and activations": ("pow", "rsqrt", "silu", "silu_backward", "gelu", "gelu_backward", "exp", "exp_", "tanh"),
    "memory": ("empty_strided", "empty", "fill_", "zero_", "zeros", "new_zeros"),
}


def main() -> None:
    """Measure one stage and print two tables."""
    options = _options()
    with TemporaryDirectory() as folder:
        steps = Steps(Path(folder), options.device, options.threads, options.token_budget)
        step = _step(options, steps, Path(folder))
        step.run()
        title = f"{options.stage}, model {options.model}, {options.device}, {options.threads} thread(s)"
        with phases() as seconds:
            began = time.perf_counter()
            for _ in range(options.repeats):
                step.run()
            total = (time.perf_counter() - began) / options.repeats
        print(f"{title}: {total:.2f} s, {step.positions} positions, {step.responses} responses")
        if seconds:  # scoring has no separate phases
            each = {phase: taken / options.repeats for phase, taken in seconds.items()}
            _print("phase, fraction of the time", each, total)
        with decoding_recorded(), profile() as profiled:
            step.run()
        _print("operators, fraction of the device's time", *parts(profiled.key_averages(), options.device))


def _options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--rows", type=positive, default=16, help="pairs, or prompts")
    parser.add_argument(
        "--responses", type=positive, default=8, help="responses per prompt: scoring, reinforcement learning"
    )
    parser.add_argument("--new-tokens", type=positive, default=48, help="tokens of each of these responses")
    parser.add_argument("--token-budget", type=positive, default=2048, help="positions per forward pass")
    return parsed(parser)


def _step(options: argparse.Namespace, steps: Steps, folder: Path) -> Step:
    models, model = make_models(options.data, options.model), model_config(options)
    if options.stage in ("reward", "sft", "dpo"):
        make: Callable[..., Step] = getattr(steps, options.stage)
        return make(model, make_data(options.stage, options.data, models, options.rows, folder))
    prompts = make_data("grpo", options.data, models, options.rows, folder)
    responses = ((2,) * options.new_tokens,) * options.responses
    trees = [PromptTree(tree.prompt, responses) for tree in prompts]
    if options.stage == "scoring":
        return steps.scoring(model, trees)
    return (steps.grpo if options.stage == "grpo" else steps.ppo)(model, trees, options.new_tokens)


@contextmanager
def phases() -> Iterator[Mapping[str, float]]:
    """Measure the seconds of each phase, without the phases inside it, while the context is open."""
    from plaudit.parallel.replicated import ReplicatedStrategy
    from plaudit.training.accumulation import GradientAccumulator
    from plaudit.training.model_reader import ModelReader
    from plaudit.training.rl.rollout_sampler import RolloutSampler
    from plaudit.training.rl.scoring import Scorer

    places = {
        "sampling": (RolloutSampler, "sample"),
        "rewards": (Scorer, "score"),
        "reference; in PPO also old log-probabilities and values": (ModelReader, "per_token"),
        "learning, forward": (GradientAccumulator, "accumulate"),
        "learning, backward": (ReplicatedStrategy, "backward"),
        "optimizer": (ReplicatedStrategy, "step"),
    }
    seconds: defaultdict[str, float] = defaultdict(float)
    inside: list[float] = []
    own = {phase: getattr(owner, name) for phase, (owner, name) in places.items()}
    for phase, (owner, name) in places.items():
        setattr(owner, name, _timed(own[phase], phase, seconds, inside))
    yield seconds
    for phase, (owner, name) in places.items():
        setattr(owner, name, own[phase])


@contextmanager
def decoding_recorded() -> Iterator[None]:
    """Make the compiled decoding loops visible to the profiler; they are not torch operators."""
    place: Any = attention
    decode = place.decode

    @wraps(decode)
    def recorded(*arguments: Any) -> Any:
        with record_function(DECODING):
            return decode(*arguments)

    place.decode = recorded
    yield
    place.decode = decode


def _timed(function: Any, phase: str, seconds: defaultdict[str, float], inside: list[float]) -> Any:
    """Return the function, adding its time to ``seconds``; ``inside`` holds the time of phases within the open ones."""

    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        inside.append(0.0)
        began = time.perf_counter()
        result = function(*arguments, **options)
        taken = time.perf_counter() - began
        seconds[phase] += taken - inside.pop()
        if inside:
            inside[-1] += taken
        return result

    return timed


def parts(operators: Iterable[Any], device: str) -> tuple[Mapping[str, float], float]:
    """Return the seconds of every part of ``PARTS``, and of all operators together.

    On a GPU, a kernel is listed next to the operator that launched it and counts as part of it.
    """
    of_operator = {name if "::" in name else f"aten::{name}": part for part, names in PARTS.items() for name in names}
    seconds: defaultdict[str, float] = defaultdict(float)
    for event in operators:
        if event.device_type.name == "CPU":
            taken = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
            seconds[of_operator.get(event.key, "the rest")] += taken / 1e6
    return seconds, sum(seconds.values())


def _print(title: str, seconds: Mapping[str, float], total: float) -> None:
    print(f"\n{title}")
    for name, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:<48}{taken:>8.2f} s{taken / total:>7.0%}")
    if (rest := total - sum(seconds.values())) > 0.005 * total:
        print(f"{'everything else':<48}{rest:>8.2f} s{rest / total:>7.0%}")


if __name__ == "__main__":
    main()
