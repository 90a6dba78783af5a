"""A server with vLLM's protocol that computes with a transformers model, in a thread of the test's process.

Its model has random weights until the first update. As a script, it stands for the Python of vLLM's environment:

    python fake_vllm.py -m vllm.entrypoints.openai.api_server --model FOLDER --port PORT …
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch._C._distributed_c10d import TCPStore

from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration.install import install
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.engines.vllm.plugin.plaudit_vllm.group import JOIN, Group, report_ready
from plaudit.rollouts.samples import Request

Answer = tuple[int, Any]


class FakeVllm:
    """Serves the model whose configuration is in ``folder``; asleep, it has none.

    ``calls`` are the paths of all requests, ``applied`` the versions of weights. ``faults`` maps a path to a function
    from the right answer (status and body) to the one that is sent.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
        loaded: Any = SimpleNamespace(
            model=self.model,
            tokenizer=SimpleNamespace(eos_token_id=None, decode=lambda *_, **__: ""),
            device=torch.device("cpu"),
            acceleration=install(self.model, generates=True),
        )
        self.engine = TransformersEngine(loaded)
        self.version = "default"
        self.staged: dict[str, torch.Tensor] = {}
        self.update: dict[str, Any] = {}
        self.group: Group | None = None
        self.can_sleep, self.is_asleep = True, False
        self.is_paused = False
        self.calls: list[str] = []
        self.applied: list[str] = []
        self.faults: dict[str, Callable[[Answer], Answer]] = {}
        self._lock = Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "FakeVllm":
        Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def serve(self) -> None:
        self._http.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        """Die: answer nothing more."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: Any) -> Answer:
        with self._lock:
            self.calls.append(path)
            try:
                right: Answer = 200, self._work(path, body)
            except (ValueError, AssertionError, ConnectionError) as error:
                right = 500, {"error": str(error)}
            fault = self.faults.get(path)
            return right if fault is None else fault(right)

    def _work(self, path: str, body: Any) -> Any:
        if path == "/pause?mode=wait":
            self.is_paused = True
        elif path == "/resume":
            self.is_paused = False
        elif path == "/start_weight_update":
            self.staged = {}
        elif path == "/init_weight_transfer_engine":
            self._join(**body["init_info"])
        elif path == "/get_world_size":
            return {"world_size": 1}
        elif path == "/update_weights":
            self._stage(body["update_info"])
        elif path == "/finish_weight_update":
            self._receive()
            self.apply()
            self.version = body["weight_version"]
            self.applied.append(self.version)
        elif path == "/reset_prefix_cache":
            return {"success": True}
        elif path == "/inference/v1/generate":
            return self._generate(body)
        elif path == "/server_info?config_format=json":
            return {"vllm_config": {"model_config": {"enable_sleep_mode": self.can_sleep}}}
        elif path == "/sleep?level=2&mode=wait":
            self.is_asleep = True
            for weight in self.model.state_dict().values():
                weight.zero_()
        elif path == "/wake_up":
            self.is_asleep = False
        elif path != "/health":
            raise ValueError(f"unknown path {path}")
        return {}

    def _join(self, host: str = "", port: int = 0, size: int = 0, first_rank: int = 0, seconds: float = 0) -> None:
        self.group = None
        if host:
            store = TCPStore(host, port, timeout=timedelta(seconds=seconds), wait_for_workers=False)
            report_ready(store, JOIN, first_rank)
            self.group = Group(store, host, first_rank, size, torch.device("cpu"), seconds=seconds)

    def _stage(self, info: dict[str, Any]) -> None:
        assert not self.is_asleep
        self.staged, self.update = {}, info
        if "file" in info:
            with safe_open(info["file"], "pt") as file:
                if file.metadata()["version"] != info["version"]:
                    raise ValueError("the file has another version")
                self.staged = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if {(name, *value.shape) for name, value in self.staged.items()} != _announced(info):
                raise ValueError("the announced shapes are wrong")
        tied = {"lm_head.weight"} if self.model.config.tie_word_embeddings else set()
        expected = {(name, *value.shape) for name, value in self.model.state_dict().items() if name not in tied}
        if wrong := expected ^ _announced(info):
            raise ValueError(f"tensors differ: {sorted(wrong)}")

    def _receive(self) -> None:
        if self.group is None:
            return
        self.group.report_ready(self.update["version"])
        for name, dtype, shape in self.update["tensors"]:
            self.staged[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            self.group.broadcast(self.staged[name])

    def apply(self) -> None:
        assert self.is_paused
        self.model.load_state_dict(self.staged, strict=False)

    def _generate(self, body: dict[str, Any]) -> Any:
        assert not self.is_paused
        assert not self.is_asleep
        given = body["sampling_params"]
        assert given["ignore_eos"] is True
        assert given["logprobs"] == 0
        assert body["cache_salt"] == self.version or self.faults
        self.engine._end_ids = frozenset(given["stop_token_ids"])
        settings = GenerationConfig(
            max_new_tokens=given["max_tokens"],
            min_new_tokens=given["min_tokens"],
            temperature=given["temperature"],
            **{key: given[key] for key, neutral in (("top_k", 0), ("top_p", 1)) if given[key] != neutral},
        )
        sample = self.engine.generate([Request(tuple(body["token_ids"]), "", given["seed"])], settings)[0]
        return {
            "choices": [
                {
                    "index": 0,
                    "token_ids": list(sample.response_ids),
                    "logprobs": {"content": [{"token_id": 0, "logprob": p} for p in sample.log_probabilities]},
                    "finish_reason": "stop" if sample.ended else "length",
                    "weight_versions": [{"version": self.version, "start": 0, "end": len(sample.response_ids)}],
                }
            ]
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(*server.answer(self.path, None))

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._send(*server.answer(self.path, json.loads(content) if content else None))

            def _send(self, status: int, body: Any) -> None:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        return Handler


def _announced(info: dict[str, Any]) -> set[tuple[Any, ...]]:
    return {(name, *shape) for name, _, shape in info["tensors"]}


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    options = dict(zip(sys.argv[3:], sys.argv[4:], strict=False))
    torch.set_num_threads(1)
    FakeVllm(Path(options["--model"]), int(options["--port"])).serve()
