"""An environment for the peer, beside the project's own: the same torch and transformers, and its packages on top."""

import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".environments"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def python_with(package: str, version: str) -> Path:
    """Return the Python that has ``package``; the environment is made at the first call.

    It sees the packages of the project's environment, so that pip has only what is missing to install, and both sides
    compute with the same torch.
    """
    folder = FOLDER / f"{package}-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        own = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        (Path(own) / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        install = ["install", "--quiet", f"{package}=={version}", "--constraint", str(CONSTRAINTS)]
        subprocess.run([str(python), "-m", "pip", *install], check=True)
        (folder / "complete").touch()
    return python
