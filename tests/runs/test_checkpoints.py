import json
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.errors import PlauditError
from plaudit.files import sha256
from plaudit.runs.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from plaudit.runs.disk_space import RESERVE


def tensors_of(step: int) -> dict[str, dict[str, Tensor]]:
    return {"model": {"weight": torch.full((3, 4), float(step))}, "optimizer": {"step": torch.tensor(float(step))}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_loads_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 4, generator=generator)
    saved = {
        "model": {
            "plain": whole.clone(),
            "transposed": whole.t(),
            "part of a larger tensor": whole[2:4],
            "another part": whole[4:6],
            "bfloat16": whole.bfloat16(),
            "odd bits": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
            "nothing": torch.zeros(0, 5),
            "a number": torch.tensor(3, dtype=torch.int64),
            "flags": torch.tensor([True, False]),
        },
        "stage": {},
    }
    state = {
        "position": 7,
        "coefficient": 0.1 + 0.2,
        "list": [1e-320, float("inf")],
        "nested": {"text": "é", "none": None},
    }
    path = save_checkpoint(tmp_path / "checkpoints", 12, saved, state, keep=2)
    assert path.name == "step-00000012"
    loaded = load_checkpoint(path)
    assert (loaded.step, loaded.state) == (12, state)
    assert loaded.tensors.keys() == saved.keys()
    for name, tensor in saved["model"].items():
        again = loaded.tensors["model"][name]
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(again.flatten().view(torch.uint8), tensor.contiguous().flatten().view(torch.uint8)), name
    # A view does not write its whole tensor into the file.
    only_part = save_checkpoint(tmp_path / "part", 1, {"model": {"part": torch.zeros(100_000)[:2]}}, {}, keep=1)
    assert (only_part / "model.safetensors").stat().st_size < 1000


def test_floats_of_the_state_keep_every_bit(tmp_path: Path) -> None:
    generator = random.Random(0)
    numbers = [generator.uniform(-1, 1) * 10.0 ** generator.randint(-300, 300) for _ in range(1000)]
    numbers += [0.1, 1 / 3, -0.0, 5e-324, sys.float_info.min, sys.float_info.max, float("inf")]
    path = save_checkpoint(tmp_path, 1, {}, {"numbers": numbers}, keep=1)
    found = load_checkpoint(path).state["numbers"]
    assert [number.hex() for number in found] == [number.hex() for number in numbers]


@pytest.mark.parametrize("state", [{"a": {1: 2}}, {"a": (1, 2)}, {"a": float("nan")}])
def test_a_state_that_json_would_change_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, 1, {}, state, keep=1)
    assert latest_checkpoint(tmp_path) is None


def test_tied_tensors_are_refused_by_name(tmp_path: Path) -> None:
    weight = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="model: head and embedding share one tensor"):
        save_checkpoint(tmp_path, 1, {"model": {"embedding": weight, "head": weight.view(2, 3)}}, {}, keep=1)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, step, tensors_of(step), {}, keep=2)
    assert names(tmp_path) == ["step-00000015", "step-00000020"]
    # Resumed from an older checkpoint: the later ones are obsolete.
    save_checkpoint(tmp_path, 17, tensors_of(17), {}, keep=2)
    assert names(tmp_path) == ["step-00000015", "step-00000017"]


def test_what_a_kill_left_is_removed_when_the_stage_continues(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {}, {}, keep=3)
    (tmp_path / "step-00000004.unfinished").mkdir()
    remove_leftovers(tmp_path, 3, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_the_newest_is_found_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save_checkpoint(tmp_path, step, tensors_of(1), {}, keep=2)
    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-100000000"


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, tensors_of(1), {}, keep=2)
    save_checkpoint(tmp_path, 3, tensors_of(2), {}, keep=2)
    assert names(tmp_path) == ["step-00000003"]
    place = tmp_path / "step-00000003"
    assert load_checkpoint(place).tensors["model"]["weight"][0, 0] == 2
    # Killed between the two renames, or before the replaced one was deleted.
    shutil.copytree(place, tmp_path / "step-00000003.replaced")
    assert latest_checkpoint(tmp_path) == place
    shutil.rmtree(place)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000003.replaced"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    "file, damage, reason",
    [
        ("model.safetensors", flip_a_bit, "model.safetensors: checksum"),
        ("optimizer.safetensors", cut_short, r"optimizer.safetensors: \d+ bytes instead of"),
        ("state.json", Path.unlink, "state.json: missing"),
        ("state.json", flip_a_bit, "state.json: checksum"),
        ("manifest.json", cut_short, "manifest.json: unreadable"),
        ("manifest.json", Path.unlink, "manifest.json: missing"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: Any, reason: str
) -> None:
    older = save_checkpoint(tmp_path, 1, tensors_of(1), {}, keep=2)
    newer = save_checkpoint(tmp_path, 2, tensors_of(2), {}, keep=2)
    damage(newer / file)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == older
    assert f"{newer}/{file}: " in caplog.text
    with pytest.raises(PlauditError, match=reason):
        load_checkpoint(newer)
    shutil.rmtree(older)
    with pytest.raises(PlauditError, match="every checkpoint is damaged"):
        latest_checkpoint(tmp_path)


def test_no_folder_and_no_checkpoint_give_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None
    (tmp_path / "step-00000004.unfinished").mkdir()
    assert latest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, 5, {}, {}, keep=1)
    assert names(tmp_path) == ["step-00000005"]


def test_files_of_the_user_in_an_old_checkpoint_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        path = save_checkpoint(tmp_path, step, tensors_of(step), {}, keep=1)
        (path / "why.md").write_text(f"mine {step}")
        (path / "plots").mkdir()
        (path / "plots" / "loss.png").touch()
    again = save_checkpoint(tmp_path, 2, tensors_of(2), {}, keep=1)
    (again / "why.md").write_text("mine again")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "step-00000000").symlink_to(tmp_path / "elsewhere")
    save_checkpoint(tmp_path, 3, tensors_of(3), {}, keep=1)
    assert names(tmp_path) == ["elsewhere", "kept-step-00000001", "kept-step-00000002", "step-00000003"]
    assert [(tmp_path / "kept-step-00000002" / name).read_text() for name in ("why.md", "why.md.1")] == [
        "mine 2",
        "mine again",
    ]
    assert (tmp_path / "kept-step-00000001" / "plots" / "loss.png").exists()
    kept = tmp_path / "kept-step-00000001" / "why.md"
    assert f"why.md: not written by Plaudit, so it is kept as {kept}" in caplog.messages


class Crash(BaseException):
    pass


@pytest.mark.parametrize("last_step", [2, 3], ids=["same step again", "next step"])
def test_a_crash_at_any_system_call_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    originals = {name: getattr(os, name) for name in ("rename", "fsync", "unlink", "rmdir", "mkdir")}

    def crash_after(calls: int) -> Path:
        """Save two checkpoints, then one more that dies at the given system call; return the folder."""
        folder = tmp_path / str(calls)
        for step in (1, 2):
            save_checkpoint(folder, step, tensors_of(step), {"version": step}, keep=1)
        left = [calls]

        def counted(name: str) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise Crash
                return originals[name](*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for name in originals:
                patched.setattr(os, name, counted(name))
            save_checkpoint(folder, last_step, tensors_of(3), {"version": 3}, keep=1)
        return folder

    for calls in range(100):
        try:
            crash_after(calls)
        except Crash:
            newest = latest_checkpoint(tmp_path / str(calls))
            assert newest is not None
            assert load_checkpoint(newest).state["version"] in (2, 3)
            for path in (tmp_path / str(calls)).glob("step-*"):
                assert path.suffix == ".unfinished" or load_checkpoint(path), "half deleted under its own name"
            again = save_checkpoint(tmp_path / str(calls), last_step, tensors_of(4), {"version": 4}, keep=1)
            assert names(tmp_path / str(calls)) == [again.name]
        else:
            break
    assert 10 < calls < 99


KILLED_WHILE_SAVING = """
import json, os, random, signal, sys, time
from pathlib import Path
import safetensors.torch, torch
from plaudit.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint

torch.set_num_threads(1)
folder, generator = Path(sys.argv[1]), random.Random(0)
outcomes, step = [], 0
for _ in range(30):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            tensors = {name: {"x": torch.full((20_000,), float(step))} for name in ("model", "optimizer")}
            save_checkpoint(folder, step, tensors, {"step": step}, keep=2)
            os.write(write, step.to_bytes(4, "big"))
    os.close(write)
    announced = int.from_bytes(os.read(read, 4), "big")
    time.sleep(generator.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while word := os.read(read, 4):
        announced = int.from_bytes(word, "big")
    os.close(read)
    left_over = any(path.name.endswith(".unfinished") for path in folder.iterdir())
    loaded = load_checkpoint(latest_checkpoint(folder))
    step = loaded.step
    whole = all(bool((file["x"] == step).all()) for file in loaded.tensors.values()) and loaded.state == {"step": step}
    outcomes.append({"announced": announced, "found": step, "whole": whole, "left_over": left_over})
print(json.dumps(outcomes))
"""


def test_kill_9_at_random_moments_of_saving(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    outcomes = json.loads(finished.stdout)
    assert len(outcomes) == 30
    # Killed after the rename but before it was reported: one more than reported.
    assert all(outcome["whole"] and outcome["found"] - outcome["announced"] in (0, 1) for outcome in outcomes)
    assert sum(outcome["left_over"] for outcome in outcomes) > 5, "the kills missed the moments of writing"
    assert "skipped a damaged checkpoint" not in finished.stderr


@pytest.mark.parametrize(
    "manifest",
    ["", "{}", '{"files": {}}', '{"files": []}', "[]", "\x00", "[" * 100_000, '{"files": {"state.json": 1}}'],
)
def test_a_checkpoint_whose_manifest_proves_nothing_is_damaged(tmp_path: Path, manifest: str) -> None:
    for step in (1, 2):
        path = save_checkpoint(tmp_path, step, {"model": {"weight": torch.zeros(2)}}, {}, keep=2)
    (path / "manifest.json").write_text(manifest)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "step-00000001"
    with pytest.raises(PlauditError, match=r"step-00000002/.*delete this checkpoint"):
        load_checkpoint(path)


def test_files_named_like_checkpoints_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step-00000009", "step-1.unfinished", "step-x", "step-00000003.replaced"):
        (tmp_path / name).write_text("notes")
    assert latest_checkpoint(tmp_path) is None
    path = save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    assert latest_checkpoint(tmp_path) == path
    save_checkpoint(tmp_path, 9, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    assert load_checkpoint(tmp_path / "step-00000009").step == 9


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_refused_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=RESERVE + 7))
    with pytest.raises(PlauditError, match="needs room for a checkpoint of 0 MB, but only 17 MB are free"):
        save_checkpoint(tmp_path, 2, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=RESERVE + 8))
    save_checkpoint(tmp_path, 2, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    assert not first.exists()


# Optimizer state ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_weights_have_the_mode_that_the_umask_allows(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(2)}}, {}, keep=1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}


def test_a_resumed_stage_reads_the_checksums_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(file: Path) -> str:
        hashed.append(file.name)
        return sha256(file)

    save_checkpoint(tmp_path, 1, {"model": {"weight": torch.ones(2)}}, {}, keep=1)
    monkeypatch.setattr("plaudit.runs.manifest.sha256", counted)
    path = latest_checkpoint(tmp_path)
    assert path is not None
    assert load_checkpoint(path, verify=False).tensors["model"]["weight"].tolist() == [1.0, 1.0]
    assert sorted(hashed) == ["model.safetensors", "state.json"]
