"""Output of all commands: message options, error lines, and quiet libraries."""

import inspect
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from plaudit.log import console, show_messages

_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # When this is set, tokenizers does not warn if a process forks after it has used several threads.
    "TOKENIZERS_PARALLELISM": "true",
}


SeedOption = Annotated[int, typer.Option(help="Seed of all random choices.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the best available")]
TemperatureOption = Annotated[
    float | None, typer.Option(help="0 always takes the most likely token.", min=0, show_default="the run's, or 1")
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        help="Sample from the most likely tokens with this total probability.",
        min=1e-6,
        max=1,
        show_default="the run's, or 1",
    ),
]
MaxNewTokensOption = Annotated[
    int | None, typer.Option(help="Maximum length of a reply, in tokens.", min=1, show_default="the run's, or 64")
]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Let the model continue the prompts, without a prompt template.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]


@dataclass
class ErrorOutput:
    """How errors are printed: as one line, or with the traceback."""

    debug: bool = False


errors = ErrorOutput()


def quiet_libraries() -> None:
    """Turn off progress bars and advice of libraries, unless the user set them. Call this before importing any."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def with_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options ``--quiet``, ``--verbose`` and ``--debug`` to a command."""
    options = {
        "quiet": Annotated[bool, typer.Option("--quiet", help="Show only warnings, errors and results.")],
        "verbose": Annotated[bool, typer.Option("--verbose", help="Also show messages for developers.")],
        "debug": Annotated[bool, typer.Option("--debug", help="Show errors with traceback and cause.")],
    }

    @wraps(command)
    def with_messages(*arguments: Any, quiet: bool, verbose: bool, debug: bool, **rest: Any) -> None:
        """Set how much is printed, then call the command."""
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose contradict each other; give one of them")
        errors.debug = debug
        show_messages(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        command(*arguments, **rest)

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in options.items()
    ]
    with_messages.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    with_messages.__annotations__ = {**command.__annotations__, **options}
    return with_messages


def print_error(error: BaseException | str) -> None:
    """Print an error to standard error: red on a terminal, never wrapped, brackets taken literally.

    With ``--debug`` an exception's traceback and causes come first.
    """
    if errors.debug and isinstance(error, BaseException):
        console().print("".join(traceback.format_exception(error)), style="dim", markup=False, soft_wrap=True)
    console().print(str(error), style="red", markup=False, soft_wrap=True)
