"""Generation and training with a server that speaks vLLM's protocol and computes with the same model as the trainer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from child_processes import child_environment
from fake_vllm import Answer, FakeVllm
from plaudit.config.load import load_recipe
from plaudit.config.schema import GenerationConfig, ModelConfig
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import LoadedModel, load_policy
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.model_engine import configured_engine
from plaudit.rollouts.engines.vllm import fleet
from plaudit.rollouts.engines.vllm.fleet import check_machines
from plaudit.runner import run
from plaudit.runs.jsonl import read_json_lines
from rl_runs import perturb, rl_metrics
from tiny_runs import tiny_recipe
from two_processes import TwoProcesses
from vllm_engines import CPU, GENERATE, differences, engine_at, fresh_policy, requests

UPDATE = ["/pause?mode=wait", "/start_weight_update", "/update_weights", "/finish_weight_update"]
UPDATE += ["/reset_prefix_cache", "/resume"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``recipe.yaml``, of which everything before RL is done."""
    folder = tmp_path_factory.mktemp("vllm")
    run(load_recipe(str(tiny_recipe(folder))), ["pretrain", "sft", "reward"])
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[FakeVllm]:
    with FakeVllm(folder / "runs/tiny/sft/model") as fake:
        yield fake


def policy(folder: Path, **changes: Any) -> LoadedModel:
    config = ModelConfig.model_validate({"path": str(folder / "runs/tiny/sft/model"), **changes})
    return load_policy(config, CPU)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.3, "batch_size": 2},
        {"temperature": 0.0},
        {"random_length": True, "max_new_tokens": 20},
        {"stop": ["w3", "w1"], "max_new_tokens": 20},
        {"top_k": 3, "top_p": 0.9, "min_new_tokens": 5},
    ],
    ids=str,
)
def test_samples_are_those_of_the_engine_in_this_process(
    folder: Path, server: FakeVllm, settings: dict[str, Any]
) -> None:
    generation = GenerationConfig.model_validate({"max_new_tokens": 8, **settings})
    assert not differences(server.url, policy(folder), generation)


def test_the_server_gets_merged_adapters(folder: Path, server: FakeVllm) -> None:
    loaded = policy(folder, lora={"rank": 2})
    perturb(loaded.model)
    assert not differences(server.url, loaded, GenerationConfig(max_new_tokens=8))


def test_the_server_gets_tied_weights_once(tmp_path: Path) -> None:
    loaded = fresh_policy(tmp_path, tie_word_embeddings=True)
    perturb(loaded.model)
    with FakeVllm(tmp_path) as server:
        assert not differences(server.url, loaded, GenerationConfig(max_new_tokens=8))


def test_a_version_is_sent_once_and_in_the_order_of_the_protocol(folder: Path, server: FakeVllm) -> None:
    engine = engine_at(server.url, policy(folder))
    engine.update(3)
    engine.update(3)
    assert [path for path in server.calls if path != GENERATE] == ["/init_weight_transfer_engine", *UPDATE]
    server.calls.clear()
    engine.update(4)
    assert server.calls == UPDATE, "the first update alone is followed by a check"
    assert [version.rpartition("-")[2] for version in server.applied] == ["3", "4"]
    engine.close()


@pytest.mark.parametrize("options, sent", [("weights: file", "012"), ("weights: broadcast, sleep: true", "00112")])
def test_a_whole_run_is_that_of_the_engine_in_this_process(
    folder: Path, server: FakeVllm, options: str, sent: str
) -> None:
    wanted = rl_metrics(folder, "here")
    name = f"there-{len(options)}"
    found = rl_metrics(folder, name, f"rl.generation.engine={{kind: vllm, url: {server.url}, {options}}}")
    assert [without_times(line) for line in found] == [pytest.approx(without_times(line), abs=1e-4) for line in wanted]
    assert "".join(version.rpartition("-")[2] for version in server.applied) == sent
    here, there = (read_json_lines(folder / f"runs/{run}/rl/samples.jsonl") for run in ("here", name))
    assert [line["response"] for line in there] == [line["response"] for line in here]


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if "seconds" not in name}


def test_two_processes_share_a_server_and_send_each_version_once(folder: Path, server: FakeVllm) -> None:
    """Their weights are in shards, and whole only in the main process while they are sent."""
    wanted = rl_metrics(folder, "alone")
    options = [*alone(folder), "name=shared", "processes=2", "distributed=fsdp2"]
    options.append(f"rl.generation.engine={{kind: vllm, url: {server.url}}}")
    TwoProcesses("-m", "plaudit", "run", str(folder / "recipe.yaml"), *options).finish()
    found = [line for line in read_json_lines(folder / "runs/shared/rl/metrics.jsonl") if "kl" in line]
    assert [line["reward/mean"] for line in found] == pytest.approx([line["reward/mean"] for line in wanted], abs=1e-4)
    assert [version.rpartition("-")[2] for version in server.applied] == ["0", "1", "2"]


def alone(folder: Path) -> list[str]:
    """Return overrides for reinforcement learning in another run, on the earlier stages' models."""
    base = folder / "runs/tiny"
    earlier = [f"{stage}=null" for stage in ("pretrain", "sft", "reward", "dpo")]
    return [f"rl.model={base}/sft/model", f"rl.rewards.0.path={base}/reward/model", "rl.value_model=null", *earlier]


# Faults ---------------------------------------------------------------------------------------------------------------


def changed(**choice: Any) -> Callable[[Answer], Answer]:
    """Return a fault that replaces keys of the answer's choice; functions get the right value."""

    def fault(answer: Answer) -> Answer:
        [right] = answer[1]["choices"]
        new = {key: value(right[key]) if callable(value) else value for key, value in choice.items()}
        return 200, {"choices": [right | new]}

    return fault


def versioned(version: str) -> Callable[[Any], Any]:
    return lambda spans: [spans[0] | {"version": version}]


def two_spans(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [spans[0] | {"end": 1, "version": "earlier"}, spans[0] | {"start": 1}]


def doubled(logprobs: dict[str, Any]) -> dict[str, Any]:
    return {"content": [token | {"logprob": 2 * token["logprob"]} for token in logprobs["content"]]}


def infinite(logprobs: dict[str, Any]) -> dict[str, Any]:
    return {"content": [token | {"logprob": -9999.0} for token in logprobs["content"]]}


def first(items: list[Any]) -> list[Any]:
    return items[:1]


ONE_TOKEN = {
    "token_ids": first,
    "logprobs": lambda logprobs: {"content": logprobs["content"][:1]},
    "weight_versions": lambda spans: [spans[0] | {"end": 1}],
    "finish_reason": "length",
}
FAULTS: dict[str, tuple[str, Callable[[Answer], Answer], str]] = {
    "stale weights": (GENERATE, changed(weight_versions=versioned("default")), r"weights \[\('default', 0, \d+\)\]"),
    "weights changed within a response": (GENERATE, changed(weight_versions=two_spans), r"'earlier', 0, 1"),
    "no version": (GENERATE, changed(weight_versions=None), "in another format"),
    "aborted": (GENERATE, changed(finish_reason="abort"), "ended a response by abort"),
    "cut short": (GENERATE, changed(**ONE_TOKEN), "returned 1 tokens where 16 were allowed"),
    "no log-probability": (GENERATE, changed(logprobs={"content": []}), "0 log-probabilities"),
    "other probabilities": (GENERATE, changed(logprobs=doubled), r"differ from the model's by .*engine\.dtype"),
    "no number": (GENERATE, changed(logprobs=infinite), "not finite"),
    "wrong status": (GENERATE, lambda _: (503, {"error": "busy"}), "status 503: .*busy"),
    "another service": (GENERATE, lambda _: (200, {"hello": "world"}), "in another format"),
    "no JSON": (GENERATE, lambda _: (200, b"<html>"), "not JSON"),
    "no weight transfer": ("/init_weight_transfer_engine", lambda _: (404, "Not Found"), "status 404"),
    "an update that fails": ("/finish_weight_update", lambda _: (500, "died"), "finish_weight_update.*status 500"),
    "old prefixes": ("/reset_prefix_cache", lambda _: (200, {"success": False}), "did not empty the cache"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_generation_with_one_line(folder: Path, server: FakeVllm, name: str) -> None:
    path, fault, message = FAULTS[name]
    server.faults[path] = fault
    engine = engine_at(server.url, policy(folder))
    with pytest.raises(PlauditError, match=message) as caught:
        engine.update(0)
    assert "\n" not in str(caught.value)
    assert f"{server.url}{path} " in str(caught.value)
    assert str(caught.value).endswith("; check engine.url and the server's log")
    engine.close()


def test_processes_on_several_machines_need_servers_that_all_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoMachines(OneProcess):
        refused_there = False

        def gather(self, value: Any) -> list[Any]:
            return [value, "another-machine" if isinstance(value, str) else self.refused_there]

    message = r"one machine, not on .*another-machine.*engine=transformers"
    started, named = VllmEngineConfig(python="python"), VllmEngineConfig(url="http://192.0.2.1:8000")
    for refused in (started, VllmEngineConfig(url=["http://192.0.2.1:8000", "http://localhost:8000"])):
        with pytest.raises(PlauditError, match=message):
            check_machines(TwoMachines(CPU), refused)
        check_machines(OneProcess(CPU), refused)
    check_machines(TwoMachines(CPU), named)
    monkeypatch.setattr(fleet, "address_towards", lambda _: "192.0.2.1")  # on this machine, and reached from others
    check_machines(TwoMachines(CPU), named)
    TwoMachines.refused_there = True  # all processes stop, so that none waits for the others
    with pytest.raises(PlauditError, match=message):
        check_machines(TwoMachines(CPU), named)


@pytest.mark.parametrize("lost", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_server_that_forgets_a_weight_is_found(folder: Path, server: FakeVllm, lost: str, monkeypatch: Any) -> None:
    def apply() -> None:
        del server.staged[lost]
        FakeVllm.apply(server)

    monkeypatch.setattr(server, "apply", apply)
    engine = engine_at(server.url, policy(folder))
    with pytest.raises(PlauditError, match=r"log-probabilities that differ from the model.s"):
        engine.update(0)
    engine.close()


def test_a_server_that_dies_during_a_run_ends_it_with_one_line_and_exit_code_2(folder: Path) -> None:
    with FakeVllm(folder / "runs/tiny/sft/model") as server:
        server.faults["/finish_weight_update"] = lambda right: right if len(server.applied) < 2 else (500, "gone")
        options = [*alone(folder), "name=dies", f"rl.generation.engine={{kind: vllm, url: {server.url}}}"]
        command = [sys.executable, "-m", "plaudit", "run", str(folder / "recipe.yaml"), *options]
        finished = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    [line] = [line for line in finished.stderr.splitlines() if "vLLM" in line]
    assert "/finish_weight_update was answered with status 500" in line
    assert "Traceback" not in finished.stderr


def test_a_server_that_is_gone_is_named(folder: Path) -> None:
    with FakeVllm(folder / "runs/tiny/sft/model") as server:
        engine = engine_at(server.url, policy(folder))
        engine.update(0)
    with pytest.raises(PlauditError, match=rf"{server.url}/inference/v1/generate got no answer .*engine\.url"):
        engine.generate(requests(), GenerationConfig(max_new_tokens=8))
    engine.close()


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["vllm", "{kind: vllm, python: a, url: b}"])
def test_a_server_is_started_or_named(folder: Path, written: str) -> None:
    with pytest.raises(PlauditError, match=r"rl\.generation\.engine\.python: set one of python"):
        load_recipe(str(folder / "recipe.yaml"), [f"rl.generation.engine={written}"])


def test_a_url_without_a_scheme_is_refused(folder: Path) -> None:
    with pytest.raises(PlauditError, match=r"engine\.url: localhost:8000 is not a URL"):
        engine_at("localhost:8000", policy(folder)).update(0)


def test_head_sizes_that_vllm_does_not_compute_on_a_cpu_are_refused(folder: Path) -> None:
    config = VllmEngineConfig(python="/no/such/python")
    with pytest.raises(PlauditError, match="attention heads of size 8, only 32, 64"):
        configured_engine(config, policy(folder), OneProcess(CPU)).update(0)
