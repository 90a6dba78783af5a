"""Servers that answer every request with the same bytes, and bytes that are no answer."""

import contextlib
import gzip
import json
import socket
from threading import Thread

OK = b"HTTP/1.1 200 OK\r\n"


class Endpoint:
    """Listens until the process ends."""

    def __init__(self, answer: bytes) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._answer = answer
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/score"
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 20)
                connection.sendall(self._answer)


def body(content: bytes, head: bytes = OK) -> bytes:
    return head + f"Content-Length: {len(content)}\r\n\r\n".encode() + content


def scores(value: object) -> bytes:
    return body(json.dumps({"scores": value}).encode())


SCORES: tuple[object, ...] = (
    *(None, 1, "1", [], {}, [1]),
    *([None] * 6, ["a"] * 6, [[1]] * 6, [True] * 6, [1e308] * 6, [{}] * 6),
)
ANSWERS = {
    "nothing": b"",
    "zeros": b"\0" * 100,
    "not HTTP": b"hello\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status abc": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 99": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 999": body(b"{}", b"HTTP/1.1 999 What\r\n"),
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\n\r\n",
    **{
        f"status {number}": body(b'{"scores": [1]}', f"HTTP/1.1 {number} x\r\n".encode())
        for number in (100, 204, 301, 304, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503)
    },
    "a redirect to itself": b"HTTP/1.1 302 Found\r\nLocation: /score\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "too short": OK + b"Content-Length: 100\r\n\r\n{}",
    "a negative length": OK + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length in words": OK + b"Content-Length: many\r\n\r\n{}",
    "many headers": OK + b"X: y\r\n" * 20_000 + b"\r\n{}",
    "a long header": OK + b"X: " + b"y" * 300_000 + b"\r\n\r\n{}",
    "bad chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "cut chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "not gzip": body(b"{}", OK + b"Content-Encoding: gzip\r\n"),
    "gzip": body(gzip.compress(b'{"scores": 1}'), OK + b"Content-Encoding: gzip\r\n"),
    "an empty body": body(b""),
    "HTML": body(b"<html><body>502</body></html>"),
    "cut JSON": body(b'{"scores": [1, 2'),
    "deep JSON": body(b"[" * 50_000),
    "not UTF-8": body(b'{"scores": "\xff\xfe"}'),
    "UTF-16": body('{"scores": [1]}'.encode("utf-16")),
    "a list": body(b"[1, 2, 3]"),
    "null": body(b"null"),
    "a huge number": body(b'{"scores": [' + b"9" * 6000 + b"]}"),
    "another key": body(b'{"score": [1]}'),
    "escapes": body(b"\x1b]0;title\x07\x1b[2J"),
    "many lines": body(b"line\n" * 50),
    **{f"scores {value!r}": scores(value) for value in SCORES},
    "NaN": body(b'{"scores": [NaN, NaN, NaN, NaN, NaN, NaN]}'),
    "Infinity": body(b'{"scores": [Infinity, 1, 1, 1, 1, 1]}'),
}
