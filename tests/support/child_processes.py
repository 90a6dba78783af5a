"""The environment in which child processes of tests can import the package and the tests' support modules."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """Return this process's environment with one thread per process and these modules on the path."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
