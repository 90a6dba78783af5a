"""A separate environment for a compared library: the project's torch, with the library's packages on top."""

import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent.parent / ".environments"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def python_with(package: str, version: str, without: tuple[str, ...] = ()) -> Path:
    """Return the Python that has ``package``; the environment is made at the first call.

    It sees the packages of the project's environment, so that pip has only what is missing to install, and both sides
    compute with the same torch. ``without`` names requirements (``name``, or ``name[extra]`` for an extra alone) that
    the peer declares and does not need here; a package with such has its other requirements in the versions that it
    asks for, not in those of ``constraints.txt``.
    """
    folder = FOLDER / f"{package}-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        question = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        own = Path(subprocess.run([python, "-c", question], check=True, capture_output=True, text=True).stdout.strip())
        (own / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        if without:
            _install(python, f"{package}=={version}", "--no-deps")
            _install(python, *_requirements(own, package, without))
        else:
            _install(python, f"{package}=={version}", "--constraint", str(CONSTRAINTS))
        (folder / "complete").touch()
    return python


def _install(python: Path, *what: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip cannot install {what[0]}:\n{done.stderr[-2000:]}")


def _requirements(packages: Path, name: str, without: tuple[str, ...]) -> list[str]:
    """Return what an installed package asks for on this machine, less ``without``."""
    installed = next(iter(Distribution.discover(name=name, path=[str(packages)])))
    return needed(installed.requires or (), without)


def needed(declared: Iterable[str], without: tuple[str, ...]) -> list[str]:
    """Return those of the requirements that a package declares that apply to this machine, less ``without``."""
    wanted = []
    for requirement in map(Requirement, declared):
        name = canonicalize_name(requirement.name)
        if name not in without and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            extras = [extra for extra in sorted(requirement.extras) if f"{name}[{extra}]" not in without]
            wanted.append(name + (f"[{','.join(extras)}]" if extras else "") + str(requirement.specifier))
    return wanted
