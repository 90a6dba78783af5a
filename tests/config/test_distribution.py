"""Strategies whose settings do not fit the number of processes are refused when the recipe is loaded."""

import pytest

from plaudit.config.load import load_recipe
from plaudit.config.schema.distribution import Fsdp2Config
from plaudit.errors import PlauditError


@pytest.mark.parametrize("processes, replicas", [(4, 1), (4, 2), (4, 4), (6, 3)])
def test_replicas_that_divide_the_processes(processes: int, replicas: int) -> None:
    distributed = {"kind": "fsdp2", "replicas": replicas}
    recipe = load_recipe({"name": "x", "processes": processes, "distributed": distributed})
    assert isinstance(recipe.distributed, Fsdp2Config)
    assert list(recipe.distributed.data_ranks(processes)) == list(range(processes))


@pytest.mark.parametrize("processes, replicas", [(4, 3), (2, 4), (3, 2)])
def test_replicas_of_unequal_size_are_refused(processes: int, replicas: int) -> None:
    distributed = {"kind": "fsdp2", "replicas": replicas}
    with pytest.raises(PlauditError, match=rf"distributed\.replicas: {replicas} .* {processes} .*choose a divisor"):
        load_recipe({"name": "x", "processes": processes, "distributed": distributed})
