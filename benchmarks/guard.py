"""Counts what a step computes, to show whether it computes more than before, regardless of the machine's speed.

Other benchmarks measure time. This one counts what time depends on: token positions, rows of the output head, forward
passes, computed prompts, the size of the largest array, waits for a device. The tests check the counts against bounds.

Run with:  python benchmarks/guard.py
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from plaudit.batching.batches import make_batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import GenerationConfig
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.trunk import trunk_of, unwrapped
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request

WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")
"""Operators whose result the host must wait for on an accelerator."""


@dataclass
class Counts:
    """Counts of what happened inside ``counting``."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the token ids of every forward pass of the trunk."""
    head_rows: int = 0
    waits: int = 0
    largest_array: int = 0

    @property
    def forwards(self) -> int:
        """Forward passes of the trunk."""
        return len(self.shapes)

    @property
    def positions(self) -> int:
        """Token positions that they computed."""
        return sum(rows * length for rows, length in self.shapes)


@contextmanager
def counting(model: Any) -> Iterator[Counts]:
    """Count what a transformers model and everything around it does."""
    counts = Counts()

    def trunk_hook(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        ids = options["input_ids"] if "input_ids" in options else arguments[0]
        counts.shapes.append(tuple(ids.shape))

    def head_hook(module: Any, arguments: Any) -> None:
        counts.head_rows += arguments[0].numel() // arguments[0].shape[-1]

    with ExitStack() as stack:
        stack.callback(trunk_of(model).register_forward_pre_hook(trunk_hook, with_kwargs=True).remove)
        stack.callback(unwrapped(model).get_output_embeddings().register_forward_pre_hook(head_hook).remove)
        stack.enter_context(_Operators(counts))
        yield counts


class _Operators(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.counts.waits += func.name().partition(".")[0] in WAITS
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.counts.largest_array = max(self.counts.largest_array, tensor.untyped_storage().nbytes())
        return result


def training_step(model: Any, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> Counts:
    """Count one training step on the responses' log-probabilities."""
    module = PolicyModule(model)
    with counting(model) as counts:
        for build in make_batches(trees, PACKED, token_budget, pack_length):
            module(build()).statistics.log_probabilities.sum().backward()
    model.zero_grad()
    return counts


def sampling(loaded: Any, requests: Sequence[Request], settings: GenerationConfig) -> Counts:
    """Count the generation of a batch."""
    engine = TransformersEngine(loaded)
    with counting(loaded.model) as counts:
        engine.generate(requests, settings)
    return counts


def dialogue_trees(count: int, vocabulary: int, seed: int = 0) -> list[PromptTree]:
    """Return pairs with lengths like those of human dialogues: prompts of 20 to 200 tokens, responses of 10 to 90."""
    generator = random.Random(seed)

    def tokens(shortest: int, longest: int) -> tuple[int, ...]:
        return tuple(generator.randrange(3, vocabulary) for _ in range(generator.randint(shortest, longest)))

    return [PromptTree(tokens(20, 200), (tokens(10, 90), tokens(10, 90))) for _ in range(count)]


def padded_positions(trees: Sequence[PromptTree], batch_size: int) -> int:
    """Return the positions of conventional batches: every response with its prompt, padded within a batch."""
    total = 0
    for start in range(0, len(trees), batch_size):
        group = trees[start : start + batch_size]
        longest = max(len(tree.prompt) + max(map(len, tree.responses)) for tree in group)
        total += longest * sum(len(tree.responses) for tree in group)
    return total


def _main() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=512, max_position_embeddings=1024)).eval()
    trees = dialogue_trees(64, 512)
    counts, needed = training_step(model, trees, 8192, 512), sum(tree.positions for tree in trees)
    print(f"pairs                      {len(trees)}")
    print(f"positions needed           {needed}")
    print(f"positions computed         {counts.positions} ({counts.positions / needed:.3f} of those needed)")
    print(f"padded in batches of 16    {padded_positions(trees, 16)} ({padded_positions(trees, 16) / needed:.3f})")
    print(f"rows of the output head    {counts.head_rows} ({sum(tree.response_tokens for tree in trees)} needed)")
    print(f"forward passes             {counts.forwards}")


if __name__ == "__main__":
    _main()
