"""A new installation from the wheel, outside the checkout, trains the quickstart."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORT = [
    "threads=1",
    "world={pretraining_texts: 60, demonstrations: 40, comparisons: 60, prompts: 30, test_prompts: 10}",
    *(f"{stage}.max_steps=3" for stage in ("pretrain", "sft", "reward")),
    *("rl.iterations=1", "rl.prompts_per_iteration=8", "rl.held_out_prompts=4", "rl.generation.max_new_tokens=8"),
    *("evaluate.max_prompts=4", "evaluate.best_of=[1, 2]", "evaluate.generation.max_new_tokens=8"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of its sources, so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    _run([sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "dist"], copy)
    (built,) = (copy / "dist").iterdir()
    return built


def _run(command: list[str], folder: Path) -> str:
    # Without the checkout: no path of the caller, and no pip configuration that could download anything.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in names if ".dist-info/" not in name}
    source = ROOT / "src"
    files = (path for path in (source / "plaudit").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(source).as_posix() for path in files}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert wheel.name == f"plaudit-{version}-py3-none-any.whl"


def test_an_installed_wheel_runs_the_quickstart_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, work = tmp_path / "environment", tmp_path / "work"
    work.mkdir()
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)], work)
    python = environment / "bin" / "python"
    own = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], work).strip())
    # Dependencies come from this environment. Its .pth files are not followed from here, so neither is an editable
    # installation of the checkout.
    (own / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", str(wheel)], work)
    assert Path(_run([str(python), "-c", "import plaudit; print(plaudit.__file__)"], work).strip()).is_relative_to(own)
    _run([str(environment / "bin" / "plaudit"), "run", "quickstart", *SHORT], work)
    run = work / "runs" / "quickstart"
    for stage in ("pretrain", "sft", "reward", "rl"):
        assert (run / stage / "model" / "model.safetensors").stat().st_size > 0
    assert "<svg" in (run / "report" / "report.html").read_text(encoding="utf-8")
