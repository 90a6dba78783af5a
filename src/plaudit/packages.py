"""Optional packages: whether one is installed in a version that works."""

from importlib.metadata import PackageNotFoundError, version


def missing_package(requirement: str) -> str | None:
    """Return what is wrong with an optional package, such as ``deepspeed>=0.19.6,<0.20``; None if it is installed."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        found = "none"
    if found != "none" and wanted.specifier.contains(found, prereleases=True):
        return None
    return f"needs {requirement}, found {found}"
