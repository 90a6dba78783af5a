"""Processes that form one data rank: they get the same rows, and only one of them counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from distributed_runs import STAGES, assert_same_bits, start, uneven_recipe
from plaudit.parallel.processes import OneProcess
from plaudit.training.metric_sums import MetricExchange, MetricSums

PAIRS = (0, 0, 1, 1)


class OneOfFour(OneProcess):
    """One of four processes, two for each data rank; all give the values that ``values`` lists."""

    count = 4
    data_ranks: Sequence[int] = PAIRS

    def __init__(self, rank: int, *values: Any) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.values = rank, values

    def gather(self, value: Any) -> list[Any]:
        return list(self.values)

    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        return [[value * number for number in numbers] for value in self.values]


@pytest.mark.parametrize("rank, expected", [(0, "ace"), (1, "ace"), (2, "bd"), (3, "bd")])
def test_a_data_rank_has_the_same_shard_in_all_its_processes(rank: int, expected: str) -> None:
    assert OneOfFour(rank).shard("abcde") == expected


def test_shards_are_merged_from_one_process_of_each_data_rank() -> None:
    assert OneOfFour(3, "ace", "not this", "bd", "nor this").merge_shards("bd") == list("abcde")


@pytest.mark.parametrize("rank, expected", [(0, "first"), (1, "first"), (2, "second"), (3, "second")])
def test_the_first_process_of_a_data_rank_decides(rank: int, expected: str) -> None:
    assert OneOfFour(rank, "first", "x", "second", "y").agreed("mine") == expected


def test_metrics_count_each_data_rank_once() -> None:
    own = MetricSums()
    own.add("loss", 3.0, 2)
    own.maximum("longest", 5.0)
    exchange = MetricExchange(OneOfFour(0, 1, 10, 100, 1000))
    exchange.names, exchange.maxima_names = ["loss"], ["longest"]
    merged = exchange.merged(own)
    assert merged.sums == {"loss": (303.0, 202.0)}
    assert merged.maxima == {"longest": 500.0}


def test_two_processes_of_one_data_rank_give_the_bits_of_one_process(alone: Path, tmp_path: Path) -> None:
    start(uneven_recipe(tmp_path), "twin", "plugins=[twin_strategy]").finish()
    for stage in STAGES:
        assert_same_bits(tmp_path / "runs/tiny", alone, stage)
