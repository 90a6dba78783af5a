"""How weights reach the servers: whole, in order, one tensor at a time, and never in part."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fake_vllm import FakeVllm
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.models.saving import SavedWeights
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.vllm import fleet
from plaudit.rollouts.engines.vllm.client import Client
from plaudit.rollouts.engines.vllm.engine import VllmEngine
from plaudit.rollouts.engines.vllm.weights import INIT, FileChannel, send_weights
from rl_runs import perturb
from vllm_engines import CPU, engine_at, fresh_policy

both_ways = pytest.mark.parametrize("weights", ["file", "broadcast"])


@both_ways
def test_all_servers_get_the_exact_weights_of_each_version(tmp_path: Path, weights: str) -> None:
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as first, FakeVllm(tmp_path) as second:
        engine = engine_at([first.url, second.url], loaded, weights=weights)
        for version in (0, 1):
            perturb(loaded.model)
            engine.update(version)
            for server in (first, second):
                own = loaded.model.state_dict()
                assert all(torch.equal(value, own[name]) for name, value in server.model.state_dict().items())
        assert first.applied == second.applied
        engine.close()


class Watched:
    """Weights that are computed when they are read; a sender may hold one while it reads the next, but no more."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors, self.read = tensors, 0

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yielded: list[weakref.ref[Tensor]] = []
        for name, tensor in self.tensors.items():
            assert sum(each() is not None for each in yielded) <= 1
            copy = tensor.clone()
            yielded.append(weakref.ref(copy))
            self.read += 1
            yield name, copy
            del copy


@both_ways
def test_tensors_are_sent_one_at_a_time(tmp_path: Path, weights: str) -> None:
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as server:
        engine = VllmEngine.load(
            VllmEngineConfig.model_validate({"url": server.url, "weights": weights}), loaded, OneProcess(CPU)
        )
        watched = Watched(dict(SavedWeights(loaded.model)))
        engine.update_weights(0, watched)
        assert watched.read == 2 * len(watched.tensors)
        engine.close()


def test_the_file_is_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.tensor([1.5], dtype=torch.float16),
        "flags": torch.tensor([True, False, True]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
    }
    found: dict[str, Tensor] = {}

    class Reads(Client):
        def post(self, path: str, body: Any = None) -> Any:
            if path == "/update_weights":
                found.update(load_file(body["update_info"]["file"]))

    send_weights([Reads("http://localhost", 1, "")], FileChannel(tmp_path), "v", tensors.items(), torch.bfloat16)
    assert list(tmp_path.iterdir()) == []
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        wanted = tensor.bfloat16() if tensor.is_floating_point() else tensor
        assert found[name].dtype == wanted.dtype
        assert torch.equal(found[name], wanted)


@both_ways
def test_a_missing_tensor_is_refused_before_the_model_changes(tmp_path: Path, weights: str) -> None:
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as server:
        engine = VllmEngine.load(
            VllmEngineConfig.model_validate({"url": server.url, "weights": weights}), loaded, OneProcess(CPU)
        )
        engine.update_weights(0, SavedWeights(loaded.model))
        fewer = dict(SavedWeights(loaded.model))
        del fewer["model.norm.weight"]
        with pytest.raises(PlauditError, match=r"/update_weights.*status 500.*model\.norm\.weight"):
            engine.update_weights(1, fewer.items())
        assert len(server.applied) == 1
        engine.close()


def test_a_server_that_leaves_during_a_broadcast_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as good, FakeVllm(tmp_path) as bad:
        engine = engine_at([good.url, bad.url], loaded, weights="broadcast")
        engine.update(0)

        def leave() -> None:
            assert bad.group is not None
            bad.group.report_ready(bad.update["version"])
            bad.group.close()
            raise ValueError("out of memory")

        monkeypatch.setattr(bad, "_receive", leave)
        with pytest.raises(PlauditError, match=rf"{bad.url}/finish_weight_update .*out of memory"):
            engine.update(1)
        assert (len(good.applied), len(bad.applied)) == (1, 1), "no server applies a part of the weights"
        engine.close()


def test_an_error_in_the_trainer_ends_the_broadcast(tmp_path: Path) -> None:
    loaded = fresh_policy(tmp_path)

    class Fails(Watched):
        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            for name, tensor in super().__iter__():
                if self.read == len(self.tensors) + 2:
                    raise PlauditError("no memory for an adapter")
                yield name, tensor

    with FakeVllm(tmp_path) as server:
        config = VllmEngineConfig(url=server.url, weights="broadcast")
        engine = VllmEngine.load(config, loaded, OneProcess(CPU))
        with pytest.raises(PlauditError, match="no memory for an adapter"):
            engine.update_weights(0, Fails(dict(SavedWeights(loaded.model))))
        assert server.applied == []
        engine.close()


def test_a_server_that_does_not_join_is_named(tmp_path: Path) -> None:
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as server:
        server.faults["/get_world_size"] = lambda _: (200, {"world_size": 2})
        server.faults[INIT] = lambda _: (500, "no such back end")
        server._join = lambda **_: None  # type: ignore[method-assign]
        with pytest.raises(PlauditError, match=rf"{server.url}{INIT} .*no such back end"):
            engine_at(server.url, loaded, weights="broadcast").update(0)


def test_a_server_on_another_machine_cannot_read_a_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(fleet, "is_here", lambda url: False)
    loaded = fresh_policy(tmp_path)
    with FakeVllm(tmp_path) as server, pytest.raises(PlauditError, match=r"engine\.url: .*weights=broadcast"):
        engine_at(server.url, loaded).update(0)
