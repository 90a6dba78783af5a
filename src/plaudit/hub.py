"""Names of models: what a folder lacks, and whether a hub model can be loaded.

The libraries retry for a minute when they cannot reach the hub. Here one request decides, within seconds.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from plaudit.errors import PlauditError, one_line

SECONDS_TO_WAIT = 5.0
MODEL_FILES = ("config.json", "adapter_config.json")
WEIGHTS = (".safetensors", ".bin", ".gguf")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
NO_TOKENIZER = (
    "no tokenizer (such as tokenizer.json) here; save the model's tokenizer there, or name one with `tokenizer` next "
    "to the model's `path`; in Python, give (model, tokenizer)"
)


def missing_part(path: str, is_tokenizer: bool = False) -> str | None:
    """Return what a folder lacks, with the remedy; None if it lacks nothing, or if ``path`` may be a hub name."""
    folder = Path(path)
    if not folder.exists():
        if path.startswith("~"):
            return "no such folder; ~ is not expanded, write the whole path"
        return None if is_hub_name(path) else "no such folder; give an existing folder or a hub name"
    names = [*MODEL_FILES, *TOKENIZER_FILES * is_tokenizer]
    if (folder / MODEL_FILES[0]).exists() and is_tokenizer and not any(map(_of_tokenizer, folder.iterdir())):
        return NO_TOKENIZER
    if any((folder / name).exists() for name in names):
        has_weights = any(file.suffix in WEIGHTS for file in folder.iterdir())
        return (
            None if is_tokenizer or has_weights else "no weights (such as model.safetensors) here; save the model again"
        )
    inside = [*sorted(folder.glob("model/*config.json")), *sorted(folder.glob("*/model/*config.json"))]
    return f"no config.json here; give {inside[0].parent if inside else 'the folder of a model, or a hub name'}"


def _of_tokenizer(file: Path) -> bool:
    return "token" in file.name or file.name.startswith(("vocab", "merges")) or file.suffix == ".model"


def check_model(path: str, is_tokenizer: bool = False) -> None:
    """Raise PlauditError, which begins with ``path``, for a folder or hub name that cannot be a model (or tokenizer).

    A folder that holds an adapter needs its base model as well.
    """
    missing = missing_part(path, is_tokenizer)
    if is_hub_name(path):
        try:
            hub_options(path)
        except PlauditError as error:
            missing = str(error)
    if missing is not None:
        raise PlauditError(f"{path}: {missing}")
    adapter = Path(path) / MODEL_FILES[1]
    if adapter.is_file() and not is_tokenizer:
        try:
            base = str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise PlauditError(f"{adapter}: names no base model ({one_line(error)}); copy the file again") from error
        try:
            check_model(base)
        except PlauditError as error:
            raise PlauditError(f"{path}: the base model of this adapter: {error}") from error


def is_hub_name(path: str) -> bool:
    """Whether a path that does not exist can be a hub name: at most one slash, and not in a folder that exists."""
    name = Path(path)
    if name.exists() or path.startswith((".", "/", "~")) or not path:
        return False
    return path.count("/") == 0 or (len(name.parts) == 2 and not name.parent.is_dir())


@cache
def hub_options(name: str, kind: Literal["model", "dataset"] = "model") -> dict[str, Any]:
    """Return the options for ``from_pretrained`` of a hub name: only cached files if the hub cannot be reached.

    Raises PlauditError, without the name, if the hub has no such model or dataset, or cannot be reached and nothing is
    cached.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return _only_cached(name, kind, "HF_HUB_OFFLINE is set")
    file = MODEL_FILES[0] if kind == "model" else "README.md"
    try:
        get_hf_file_metadata(hf_hub_url(name, file, repo_type=kind), timeout=SECONDS_TO_WAIT)
    except EntryNotFoundError:
        return {}  # the repository exists, such as that of an adapter
    except GatedRepoError as error:
        raise PlauditError(
            "the hub asks for permission: accept its terms on the hub, then run: hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise PlauditError(
            f"nothing here has this name, and the hub has no such {kind}; correct the name, or for a private {kind} "
            "run: hf auth login"
        ) from error
    except Exception as error:  # the types of connection errors depend on the version of huggingface_hub
        return _only_cached(name, kind, f"the hub cannot be reached ({one_line(error)})")
    return {}


def is_cached(name: str, kind: Literal["model", "dataset"] = "model") -> bool:
    """Whether a hub model or dataset is on this machine."""
    if kind == "dataset":
        import datasets

        return (Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in (*MODEL_FILES, *TOKENIZER_FILES)]
    except (HFValidationError, ValueError):  # a name that no model can have; ValueError: a NUL character
        return False
    return any(isinstance(file, str) for file in found)


def is_on_hub(name: str) -> bool:
    """Whether a hub model of this name is on this machine, or else on the hub, which is asked."""
    try:
        return is_cached(name) or hub_options(name) is not None
    except PlauditError:
        return False


def _only_cached(name: str, kind: Literal["model", "dataset"], why: str) -> dict[str, Any]:
    if is_cached(name, kind):
        return {"local_files_only": True}
    raise PlauditError(f"nothing here has this name, and {why}; correct the name, or connect to the network once")
