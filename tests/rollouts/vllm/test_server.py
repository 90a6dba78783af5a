"""The server's process: how it is started, what is said if it does not start, and that nothing of it is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from child_processes import child_environment
from plaudit.config.schema import GenerationConfig
from plaudit.config.schema.engines import VllmEngineConfig
from plaudit.errors import PlauditError
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.model_engine import configured_engine
from plaudit.rollouts.engines.vllm import server as server_module
from plaudit.rollouts.engines.vllm.client import Client
from plaudit.rollouts.engines.vllm.server import Server, last_error, plugin_path, server_arguments, server_environment
from plaudit.rollouts.samples import Request
from vllm_engines import CPU, fresh_policy

WIDE = {"hidden_size": 64, "num_attention_heads": 2}  # heads of a size that vLLM supports
WATCHDOG = Path(server_module.__file__).with_name("watchdog.py")
TREE = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
pathlib.Path(sys.argv[1]).write_text(f"{__import__('os').getpid()} {child.pid}")
time.sleep(1000)
"""
"""A command with a child process, which writes the numbers of both to a file."""


def script(folder: Path, text: str) -> str:
    """Write a program that stands for the Python of vLLM's environment."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


def comes_true(condition: Any, seconds: float = 60) -> bool:
    """Return whether a condition holds within some time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def written(path: Path) -> list[int]:
    """Return the numbers of the processes that ``TREE`` has written."""
    assert comes_true(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(number) for number in path.read_text().split()]


def alive(numbers: Sequence[int]) -> list[int]:
    def runs(number: int) -> bool:
        stat = Path(f"/proc/{number}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    return [number for number in numbers if runs(number)]


def watched(folder: Path, **options: Any) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        str(WATCHDOG),
        str(folder / "weights"),
        sys.executable,
        "-c",
        TREE,
        str(folder / "numbers"),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **options)


def test_closing_the_input_ends_all_processes_and_deletes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    watchdog = watched(tmp_path)
    numbers = written(tmp_path / "numbers")
    assert alive(numbers) == numbers
    assert watchdog.stdin is not None
    watchdog.stdin.close()
    watchdog.wait(60)
    assert comes_true(lambda: not alive(numbers))
    assert not (tmp_path / "weights").exists()


def test_the_death_of_the_server_ends_its_children(tmp_path: Path) -> None:
    watchdog = watched(tmp_path, stderr=subprocess.PIPE)
    server, child = written(tmp_path / "numbers")
    os.kill(server, signal.SIGKILL)
    _, errors = watchdog.communicate(timeout=60)
    assert b"exit code -9" in errors
    assert comes_true(lambda: not alive([server, child]))


def test_the_death_of_the_trainer_ends_the_server(tmp_path: Path) -> None:
    trainer = f"""
import subprocess, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_server import watched
watched(Path({str(tmp_path)!r}))
time.sleep(1000)
"""
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", trainer], env=environment)
    numbers = written(tmp_path / "numbers")
    process.kill()
    process.wait(60)
    assert comes_true(lambda: not alive(numbers))


def test_a_server_that_does_not_start_is_explained_by_its_log(tmp_path: Path) -> None:
    python = script(tmp_path, "raise RuntimeError('no vLLM here')")
    server = Server(VllmEngineConfig(python=python), "float32", tmp_path, tmp_path / "weights")
    with pytest.raises(
        PlauditError, match=r"ended before it was ready: RuntimeError: no vLLM here; see .*server-0\.log"
    ):
        server.wait_until_ready(Client(server.url, 1, ""), 60)
    server.close()


def test_a_server_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    python = script(tmp_path, f"import sys; sys.argv[1:] = [{str(tmp_path / 'numbers')!r}]\n{TREE}")
    server = Server(VllmEngineConfig(python=python), "float32", tmp_path, tmp_path / "weights")
    numbers = written(tmp_path / "numbers")
    with pytest.raises(PlauditError, match=r"not ready within 0\.1 seconds; raise engine\.start_timeout"):
        server.wait_until_ready(Client(server.url, 1, ""), 0.1)
    server.close()
    assert comes_true(lambda: not alive(numbers))


def test_a_python_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = Server(VllmEngineConfig(python="/no/such/python"), "float32", tmp_path, tmp_path / "weights")
    with pytest.raises(PlauditError, match=r"FileNotFoundError: .*/no/such/python"):
        server.wait_until_ready(Client(server.url, 1, ""), 60)
    server.close()


def test_the_arguments_ask_for_what_training_relies_on(tmp_path: Path) -> None:
    config = VllmEngineConfig(python="python", cache_mib=3, arguments=["--seed", "7"])
    arguments = server_arguments(tmp_path, 8123, "bfloat16", config)
    pairs = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert pairs["--model"] == str(tmp_path)
    assert pairs["--load-format"] == "dummy", "so that a weight that is not sent makes the check fail"
    assert pairs["--logprobs-mode"] == "processed_logprobs", "those of the distribution that was sampled from"
    assert pairs["--generation-config"] == "vllm", "no settings from a model folder"
    assert json.loads(pairs["--weight-transfer-config"]) == {"backend": "plaudit"}
    assert (pairs["--port"], pairs["--dtype"]) == ("8123", "bfloat16")
    assert pairs["--kv-cache-memory-bytes"] == str(3 * 2**20)
    assert arguments[-2:] == ["--seed", "7"]


def test_the_server_does_not_join_the_trainers_processes() -> None:
    own = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "TORCHELASTIC_RUN_ID": "b"}
    kept = server_environment(own | {"HOME": "/home"}, {"OMP_NUM_THREADS": "1"})
    assert not own.keys() & kept.keys()
    assert (kept["HOME"], kept["OMP_NUM_THREADS"], kept["VLLM_SERVER_DEV_MODE"]) == ("/home", "1", "1")


def test_the_plugin_is_an_entry_point_of_vllm(tmp_path: Path) -> None:
    find = "from importlib.metadata import entry_points as e; [p] = e(group='vllm.general_plugins'); print(p.load())"
    environment = {"PYTHONPATH": plugin_path(tmp_path), "PATH": os.environ["PATH"]}
    found = subprocess.run([sys.executable, "-c", find], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("<function register")


@pytest.mark.parametrize(
    "text, line",
    [
        ("start\nValueError: first\nlast\n\n", "ValueError: first"),
        ("start\nlast\n", "last"),
        ("", "its log is empty"),
        ("x" * 999 + "Error: no", ("x" * 999 + "Error: no")[-300:]),
    ],
)
def test_the_last_error_of_a_log(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "log").write_text(text)
    assert last_error(tmp_path / "log") == line


def started_server(folder: Path, monkeypatch: Any, **options: Any) -> VllmEngineConfig:
    """Return the section of an engine that starts the server in ``fake_vllm.py`` and writes only to ``folder``."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    support = str(Path(__file__).parents[2] / "support")
    fake = f"import sys; sys.path[:0] = {[support, *sys.path]!r}\nimport runpy\n"
    fake += f"sys.argv[0] = 'fake_vllm.py'\nrunpy.run_path({support + '/fake_vllm.py'!r}, run_name='__main__')"
    return VllmEngineConfig(python=script(folder, fake), environment={"OMP_NUM_THREADS": "1"}, **options)


def test_a_server_whose_first_answers_are_wrong_leaves_its_log(tmp_path: Path, monkeypatch: Any) -> None:
    config = started_server(tmp_path, monkeypatch, dtype="bfloat16", tolerance=1e-9)
    engine = configured_engine(config, fresh_policy(tmp_path / "model", **WIDE), OneProcess(CPU))
    with pytest.raises(PlauditError, match=r"/inference/v1/generate .*differ from the model's.*; see .*server-0\.log"):
        engine.update(0)
    engine.close()
    [log] = tmp_path.glob("plaudit-vllm-*/server-0.log")
    assert log.exists()


def test_a_server_is_started_from_the_configuration_alone_and_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    config = started_server(tmp_path, monkeypatch)
    engine = configured_engine(config, fresh_policy(tmp_path / "model", **WIDE), OneProcess(CPU))
    engine.update(0)
    [folder] = tmp_path.glob("plaudit-vllm-*")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "plaudit_vllm-1.0.dist-info",
        "server-0.log",
    ]
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    samples = engine.generate([Request((5, 6, 7), "w1", 3)], GenerationConfig(max_new_tokens=4))
    assert 1 <= len(samples[0].response_ids) <= 4
    engine.close()
    assert not list(tmp_path.glob("plaudit-vllm-*"))
