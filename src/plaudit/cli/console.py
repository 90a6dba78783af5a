"""What every command shares: the error line, and libraries that keep quiet."""

import os

_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Said in so many words, tokenizers does not warn when a process that has used several threads starts another.
    "TOKENIZERS_PARALLELISM": "true",
}


def quiet_libraries() -> None:
    """Turn off the libraries' own progress bars and advice. They read this when imported; the user's choice stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def print_error(message: str) -> None:
    """Print an error for the user to standard error: red on a terminal, never wrapped, brackets taken literally."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(message, style="red", markup=False, soft_wrap=True)
