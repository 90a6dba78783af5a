"""Ways to damage a file."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0x10
    file.write_bytes(content)


def _instead(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


def _in_utf_16(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-16")


def _bytes(content: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.write_bytes(content)

    return damage


def _every_value(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return a damage that changes the values of a JSON object; of each line's, in a file of JSON lines."""

    def changed(text: str) -> str:
        content = json.loads(text)
        return json.dumps({key: change(value) for key, value in content.items()} if isinstance(content, dict) else 0)

    def damage(file: Path) -> None:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines() if file.suffix == ".jsonl" else [text]
        file.write_text("".join(changed(line) + "\n" for line in lines))

    return damage


ANY: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": _bytes(b""),
    "cut off": _cut,
    "one bit": _flip,
    "zeros": _bytes(b"\0" * 200),
    "garbage": _bytes(bytes(range(256)) * 3),
    "LFS pointer": _bytes(POINTER),
    "a folder": _instead(Path.mkdir),
    "a loop": _instead(lambda file: file.symlink_to(file)),
    "a dangling link": _instead(lambda file: file.symlink_to(file.with_name("nowhere"))),
    "a pipe": _instead(os.mkfifo),
}
JSON: dict[str, Callable[[Path], None]] = {
    "a list": _bytes(b"[1, 2]"),
    "null": _bytes(b"null"),
    "a string": _bytes(b'"text"'),
    "an empty object": _bytes(b"{}"),
    "deep": _bytes(b"[" * 100_000),
    "a huge number": _bytes(b'{"a": ' + b"9" * 6000 + b"}"),
    "UTF-16": _in_utf_16,
    "lists as values": _every_value(lambda value: [value]),
    "nulls as values": _every_value(lambda _: None),
    "strings as values": _every_value(lambda _: "x"),
    "numbers as values": _every_value(lambda _: -1),
}


def damages_of(file: str) -> dict[str, Callable[[Path], None]]:
    """Return the ways to damage a file of this name."""
    return ANY | JSON if file.endswith((".json", ".jsonl")) else ANY
