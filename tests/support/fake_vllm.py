"""A server with vLLM's protocol that computes with a transformers model, in a thread of the test's process.

Its model has random weights until the first update. As a script, it stands for the Python of vLLM's environment:

    python fake_vllm.py -m vllm.entrypoints.openai.api_server --model FOLDER --port PORT …
"""

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open

from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration.install import install
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request

Answer = tuple[int, Any]


class FakeVllm:
    """Serves the model whose configuration is in ``folder``.

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
            except ValueError as error:
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
        elif path == "/update_weights":
            self._stage(body["update_info"])
        elif path == "/finish_weight_update":
            self.apply()
            self.version = body["weight_version"]
            self.applied.append(self.version)
        elif path == "/reset_prefix_cache":
            return {"success": True}
        elif path == "/inference/v1/generate":
            return self._generate(body)
        elif path not in ("/health", "/init_weight_transfer_engine"):
            raise ValueError(f"unknown path {path}")
        return {}

    def _stage(self, info: dict[str, Any]) -> None:
        with safe_open(info["file"], "pt") as file:
            if file.metadata()["version"] != info["version"]:
                raise ValueError("the file has another version")
            self.staged = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tied = {"lm_head.weight"} if self.model.config.tie_word_embeddings else set()
        expected = {(name, *value.shape) for name, value in self.model.state_dict().items() if name not in tied}
        if wrong := expected ^ {(name, *value.shape) for name, value in self.staged.items()}:
            raise ValueError(f"tensors differ: {sorted(wrong)}")
        if {(name, *shape) for name, shape in info["shapes"].items()} != expected:
            raise ValueError("the announced shapes are wrong")

    def apply(self) -> None:
        assert self.is_paused
        self.model.load_state_dict(self.staged, strict=False)

    def _generate(self, body: dict[str, Any]) -> Any:
        assert not self.is_paused
        given = body["sampling_params"]
        assert given["ignore_eos"] is True
        assert given["logprobs"] == 0
        assert body["cache_salt"] == self.version or self.faults
        self.engine._end_ids = frozenset(given["stop_token_ids"])
        settings = GenerationConfig(max_new_tokens=given["max_tokens"], temperature=given["temperature"])
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


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    options = dict(zip(sys.argv[3:], sys.argv[4:], strict=False))
    torch.set_num_threads(1)
    FakeVllm(Path(options["--model"]), int(options["--port"])).serve()
