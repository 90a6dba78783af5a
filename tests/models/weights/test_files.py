"""Damaged, incomplete and foreign files of weights are refused on one line with file and remedy."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model_folders import WEIGHTS, read_weights, saved
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy
from plaudit.models.weights.files import stored_shapes
from tiny_models import tiny_causal_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea\nsize 4096\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tiny_causal_model("llama"), tmp_path)


def refused(folder: Path) -> str:
    with pytest.raises(PlauditError) as error:
        load_policy(ModelConfig(path=str(folder)), torch.device("cpu"))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "damage, remedy",
    [
        (lambda content: content[:-100], "instead of .*; copy the file again"),
        (lambda content: content + b"more", "copy the file again"),
        (lambda content: content[:50], "cut off after 50 bytes"),
        (lambda content: b"", "an empty file"),
        (lambda content: b"<html>not found</html>", "not a safetensors file"),
        (lambda content: content[:8] + b"?" * (len(content) - 8), "its header is damaged"),
        (lambda content: POINTER, "Git LFS.*git lfs pull"),
    ],
)
def test_damaged_weights(folder: Path, damage: Callable[[bytes], bytes], remedy: str) -> None:
    file = folder / WEIGHTS
    file.write_bytes(damage(file.read_bytes()))
    assert re.search(rf"{file}: .*{remedy}", refused(folder))


def test_a_pointer_instead_of_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(POINTER)
    assert f"{folder / 'tokenizer.json'}: a pointer of Git LFS" in refused(folder)


def test_weights_of_torch(folder: Path) -> None:
    weights = read_weights(folder)
    (folder / WEIGHTS).unlink()
    file = folder / "pytorch_model.bin"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(weights, file, **options)
        assert stored_shapes(str(folder)) == {name: tuple(tensor.shape) for name, tensor in weights.items()}
        loaded: Any = load_policy(ModelConfig(path=str(folder)), torch.device("cpu")).model
        assert torch.equal(loaded.lm_head.weight, weights["lm_head.weight"])
    torch.save({"lm_head.weight": print}, file)
    assert f"{file}: damaged, or it holds more than tensors" in refused(folder)
    for content in (b"junk", b"PK\x03\x04junk", b"\x80\x02junk"):
        file.write_bytes(content)
        assert f"{file}: damaged" in refused(folder)
    torch.save([1, 2], file)
    assert f"{file}: holds no dictionary" in refused(folder)
    file.unlink()
    assert "no weights (such as model.safetensors) here" in refused(folder)


def test_weights_in_parts(folder: Path, tmp_path: Path) -> None:
    whole = stored_shapes(str(folder))
    tiny_causal_model("llama").save_pretrained(folder, max_shard_size="6KB")
    (folder / WEIGHTS).unlink(missing_ok=True)
    assert stored_shapes(str(folder)) == whole
    load_policy(ModelConfig(path=str(folder)), torch.device("cpu"))
    index = folder / f"{WEIGHTS}.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["lost.weight"] = sorted(content["weight_map"].values())[0]
    index.write_text(json.dumps(content))
    assert f"{index}: 1 tensors are not in the files that it names, such as lost.weight" in refused(folder)
    part = sorted(folder.glob("model-*.safetensors"))[1]
    part.unlink()
    assert f"files that it names are not there, such as {part.name}" in refused(folder)
    index.write_text("{")
    assert f"{index}: not valid JSON" in refused(folder)


def test_damaged_generation_settings_are_refused(tmp_path: Path) -> None:
    folder = saved(tiny_causal_model("llama"), tmp_path)
    (folder / "generation_config.json").write_bytes(b"\0\0")
    assert f"{folder}/generation_config.json: not valid JSON" in refused(folder)


def test_pipes_and_links_to_nowhere_are_refused(tmp_path: Path) -> None:
    folder = saved(tiny_causal_model("llama"), tmp_path)
    os.mkfifo(folder / "added_tokens.json")
    assert f"{folder}/added_tokens.json: this is a pipe" in refused(folder)
    (folder / "added_tokens.json").unlink()
    (folder / "added_tokens.json").symlink_to("nowhere")
    assert f"{folder}/added_tokens.json: no such file" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_the_damaged_file_of_a_tokenizer_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = saved(tiny_causal_model("llama"), tmp_path)
    (folder / name).write_bytes(content)
    assert f"cannot load tokenizer {folder}: {folder}/{name}: " in refused(folder)
