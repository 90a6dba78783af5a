"""The floating-point operations that a model needs for prompt trees, and that the machine performs per second.

The count includes what the equations need: matrix products of linear layers and heads, and attention over the pairs of
tokens that see each other. The last block's MLP counts only at positions whose result is used. Padding, recomputation,
norms, activations and the optimizer are not counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from plaudit.batching.trees import PromptTree
from plaudit.models.acceleration.last_mlp import last_mlp
from plaudit.models.trunk import trunk_of

TRAINING = 3  # forward passes that a step is worth: the backward pass counts twice, for the inputs and for the weights
PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
PRODUCTS = 12


@dataclass(frozen=True)
class Shape:
    """The sizes that determine a transformer's arithmetic.

    ``parameters``: number in the trunk's linear layers; ``last_mlp``: number in the last block's MLP, which are
    included in it; ``width``: heads x head size; ``outputs``: outputs of the head.
    """

    parameters: int
    last_mlp: int
    layers: int
    width: int
    hidden: int
    outputs: int

    @classmethod
    def of(cls, model: Any) -> "Shape":
        """Return the shape of a causal language model, or of a classifier with one label."""
        config, trunk = model.config, trunk_of(model)
        embeddings = {id(part.weight) for part in trunk.modules() if isinstance(part, nn.Embedding)}
        matrices = [part for part in trunk.parameters() if part.dim() == 2 and id(part) not in embeddings]
        mlp = last_mlp(trunk)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            parameters=sum(matrix.numel() for matrix in matrices),
            last_mlp=sum(matrix.numel() for matrix in mlp.parameters() if matrix.dim() == 2) if mlp else 0,
            layers=config.num_hidden_layers,
            width=width * config.num_attention_heads,
            hidden=config.hidden_size,
            outputs=1 if hasattr(model, "score") else config.vocab_size,
        )

    def forward(self, trees: Sequence[PromptTree], head_rows: int, read: int) -> float:
        """Return the operations of a forward pass: 2 per parameter and position, 4 x width per pair of tokens.

        ``head_rows``: rows of the head; ``read``: positions whose last hidden state is used.
        """
        positions = sum(tree.positions for tree in trees)
        linear = 2 * (self.parameters * positions - self.last_mlp * (positions - read))
        attention = 4 * self.width * self.layers * sum(map(visible_pairs, trees))
        return linear + attention + 2 * self.hidden * self.outputs * head_rows


def states_before(trees: Sequence[PromptTree]) -> int:
    """Return the number of states before response tokens; all responses share the state at the prompt's last token."""
    return sum(tree.response_tokens - len(tree.responses) + 1 for tree in trees)


def visible_pairs(tree: PromptTree) -> int:
    """Return the number of pairs (token, token that it sees) of a tree, including a token with itself."""
    prompt = len(tree.prompt)
    branches = sum(len(r) * prompt + len(r) * (len(r) + 1) // 2 for r in tree.responses)
    return prompt * (prompt + 1) // 2 + branches


def product_rate(device: str, threads: int, clock: str) -> float:
    """Return the operations per second of the fastest of several large square matrix products in bfloat16.

    ``clock``: by ``wall`` time, or by ``cpu`` time over all threads.
    """
    size = PRODUCT_SIZE[device]
    left, right = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    fastest = float("inf")
    for _ in range(PRODUCTS):
        before = _now(device, threads, clock)
        torch.mm(left, right)
        fastest = min(fastest, _now(device, threads, clock) - before)
    return 2.0 * size**3 / fastest


def _now(device: str, threads: int, clock: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() if clock == "wall" else time.process_time() / threads
