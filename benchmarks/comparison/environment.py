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
    """Return the Python of an environment with ``package``; the first call creates the environment.

    The environment sees the packages of the project's environment, so pip installs only what is missing, and both sides
    use the same torch. ``without`` names requirements of the peer that are not needed here (``name``, or
    ``name[extra]`` for an extra only). A package with such exceptions gets its other requirements in the versions that
    it declares, not in those of ``constraints.txt``.
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
    """Return the requirements of an installed package on this machine, except ``without``."""
    installed = next(iter(Distribution.discover(name=name, path=[str(packages)])))
    return needed(installed.requires or (), without)


def needed(declared: Iterable[str], without: tuple[str, ...]) -> list[str]:
    """Return the declared requirements that apply to this machine, except ``without``."""
    wanted = []
    for requirement in map(Requirement, declared):
        name = canonicalize_name(requirement.name)
        if name not in without and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            extras = [extra for extra in sorted(requirement.extras) if f"{name}[{extra}]" not in without]
            wanted.append(name + (f"[{','.join(extras)}]" if extras else "") + str(requirement.specifier))
    return wanted
