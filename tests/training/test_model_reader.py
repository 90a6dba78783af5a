"""What a model computes of responses: in the order of the trees, with a budget that shrinks when memory runs out."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.ragged import to_rows
from plaudit.batching.trees import PromptTree
from plaudit.training.model_reader import ModelReader

TREES = [
    PromptTree((1, 2), ((3, 4, 5),)),
    PromptTree((1,), ((6,), (7, 8))),
    PromptTree((9,) * 50, ((10, 11),)),
    PromptTree((1, 2), ((12,),)),
]


class Summed(nn.Module):
    """Returns the sum of each response's token ids; above ``most`` positions, memory runs out."""

    def __init__(self, most: int = 10**6) -> None:
        super().__init__()
        self.most = most

    def forward(self, batch: Batch) -> Tensor:
        if batch.positions > self.most:
            raise torch.OutOfMemoryError
        return to_rows(batch.targets.float(), batch.lengths).sum(1)


def reader_of(token_budget: int) -> ModelReader:
    processes = SimpleNamespace(shard=list, merge_shards=list)
    session = SimpleNamespace(processes=processes, autocast=nullcontext)
    context: Any = SimpleNamespace(session=session, config=SimpleNamespace(token_budget=token_budget))
    loaded: Any = SimpleNamespace(layout=PADDED, device=torch.device("cpu"))
    return ModelReader(context, loaded)


def test_responses_keep_the_order_of_the_trees() -> None:
    reader = reader_of(64)
    assert reader.per_response(Summed(), TREES).tolist() == [12, 6, 15, 21, 12]
    assert reader.per_response(Summed(), []).tolist() == []


def test_tokens_keep_the_order_of_the_trees() -> None:
    module = Summed()

    def compute(batch: Batch) -> tuple[Tensor, Tensor]:
        return batch.targets.float(), -batch.targets.float()

    ids, negative = reader_of(64).per_token(compute, 2, module, TREES)
    assert [part.tolist() for part in ids] == [[3, 4, 5], [6], [7, 8], [10, 11], [12]]
    assert [part.tolist() for part in negative] == [[-3, -4, -5], [-6], [-7, -8], [-10, -11], [-12]]
    assert reader_of(64).per_token(compute, 2, module, []) == [[], []]
    assert reader_of(64).of_shard(compute, module, []) == []


def test_the_budget_is_halved_until_memory_suffices_and_stays_so() -> None:
    reader = reader_of(512)
    assert reader.per_response(Summed(most=60), TREES).tolist() == [12, 6, 15, 21, 12]
    assert reader.budget.positions == 64
