"""The reference model of a problem: a tiny transformer fitted to a random distribution of every next token."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.config.schema import FreshModel, ModelConfig
from plaudit.lab.problem import END_ID, Problem, complete_trees, make_tokenizer
from plaudit.models.loading.models import load_policy
from plaudit.models.saving import save_model
from plaudit.seeding import torch_generator

ARCHITECTURE = FreshModel(
    architecture="gpt2",
    options={
        "n_embd": 64,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 32,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
    },
)
SPREAD = 0.4
"""Standard deviation of the random logits: far from uniform, and no response is impossible."""
END_BONUS = 0.3
STEPS = 400
LEARNING_RATE = 0.0015


def write_reference(problem: Problem, folder: Path) -> Path:
    """Write the reference model with its tokenizer into ``folder/reference`` and return that path."""
    tokenizer = folder / "tokenizer"
    make_tokenizer().save_pretrained(tokenizer)
    config = ModelConfig(fresh=ARCHITECTURE, tokenizer=str(tokenizer))
    loaded = load_policy(config, torch.device("cpu"), problem.number)
    _fit(loaded.model, *_random_distributions(problem, loaded.model.config.vocab_size))
    save_model(loaded.model, loaded.tokenizer, folder / "reference")
    return folder / "reference"


def _random_distributions(problem: Problem, vocabulary: int) -> tuple[list[tuple[int, ...]], Tensor]:
    """Return every context in which a token is chosen, and a distribution [contexts, vocabulary]."""
    trees = complete_trees()
    contexts = dict.fromkeys(
        tree.prompt + response[:length]
        for tree in trees
        for response in tree.responses
        for length in range(len(response))
    )
    generator = torch_generator(problem.number, "reference")
    logits = SPREAD * torch.randn(len(contexts), vocabulary, generator=generator)
    logits[:, END_ID] += END_BONUS
    return list(contexts), logits.softmax(-1)


def _fit(model: Any, contexts: list[tuple[int, ...]], wanted: Tensor) -> None:
    """Minimize the cross-entropy to the target distributions; the resulting model is the reference.

    A second head learns to identify the context and is discarded afterwards. It gives every context separate features,
    so that learning in one context hardly disturbs the others. Without it the exact gradient needs several times as
    many steps.
    """
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(context) for context in contexts], batch_first=True)
    rows, last = torch.arange(len(contexts)), torch.tensor([len(context) - 1 for context in contexts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        namer = torch.nn.Linear(model.config.hidden_size, len(contexts))
    optimizer = torch.optim.Adam([*model.parameters(), *namer.parameters()], lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        states = model.base_model(input_ids=ids).last_hidden_state[rows, last]
        naming = torch.nn.functional.cross_entropy(namer(states), rows)
        logits = model.get_output_embeddings()(states)
        loss = -(wanted * logits.log_softmax(-1)).sum(-1).mean() + naming
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
