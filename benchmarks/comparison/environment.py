"""An environment for a peer, beside the project's own: the same torch, and the peer's packages on top."""

import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent.parent / ".environments"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def python_with(package: str, version: str, without: tuple[str, ...] = ()) -> Path:
    """Return the Python that has ``package``; the environment is made at the first call.

    It sees the packages of the project's environment, so that pip has only what is missing to install, and both sides
    compute with the same torch. ``without`` names requirements that the peer declares and does not need here; a
    package with such has its other requirements in the versions that it asks for, not in those of ``constraints.txt``.
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
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *what], check=True)


def _requirements(packages: Path, name: str, without: tuple[str, ...]) -> list[str]:
    """Return what an installed package asks for on this machine, less ``without`` and less every extra."""
    installed = next(iter(Distribution.discover(name=name, path=[str(packages)])))
    wanted = []
    for requirement in map(Requirement, installed.requires or ()):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and canonicalize_name(requirement.name) not in without:
            wanted.append(f"{requirement.name}{requirement.specifier}")
    return wanted
