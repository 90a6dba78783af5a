"""The ``plaudit`` command: its subcommands and its error handling.

Modules in this folder import heavy libraries only inside functions, so that ``plaudit --help`` is fast.
"""

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import typer

from plaudit.cli import chat, data, generate, lab, score, stages
from plaudit.cli.console import errors, print_error, quiet_libraries, with_output_options
from plaudit.cli.recipes import recipes
from plaudit.errors import Interrupted, PlauditError, Terminated, errors_of_the_system

USER_ERROR = 2
ABORTED = 130
TERMINATED = 143
# Click's error for bad arguments; typer keeps its own copy of click in some versions.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="plaudit",
    help="Train a language model from feedback: fine-tuning, reward models, reinforcement learning, evaluation, chat.",
    epilog="Example: plaudit run quickstart",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
stages.add_to(app)
app.command(epilog="Example: plaudit recipes quickstart > mine.yaml")(with_output_options(recipes))
app.command()(with_output_options(chat.chat))
app.command(epilog="Example: plaudit generate quickstart --prompts prompts.txt -n 4 --output texts.jsonl")(
    with_output_options(generate.generate)
)
app.command(epilog="Example: plaudit score quickstart --data preferences.jsonl")(with_output_options(score.score))
app.command(epilog="Example: plaudit lab --only ppo,dpo --problems 2 --seeds 1")(with_output_options(lab.lab))
app.add_typer(data.app, name="data", epilog="Example: plaudit data inspect preferences.jsonl")


def _print_version(wanted: bool) -> None:
    if wanted:
        from plaudit import __version__

        typer.echo(f"plaudit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _plaudit(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("-v", "--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _terminate(*_: int | FrameType | None) -> None:
    """Handle SIGTERM outside of training; a second one ends the process at once, with the same exit code."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    raise Terminated


def _prepare_streams() -> None:
    """Print what the terminal's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line. Bad input prints one line per problem and exits with code 2, without a traceback."""
    quiet_libraries()
    errors.debug = False
    _prepare_streams()
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(_run())
    finally:
        # While Python shuts down, SIGTERM has its exit code all the same.
        at_exit = former if callable(former) else lambda *_: os._exit(TERMINATED)
        signal.signal(signal.SIGTERM, at_exit)


def _run() -> Any:
    """Run the command and return its exit code."""
    from plaudit.plugins import errors_of_user_code

    try:
        with errors_of_the_system(), errors_of_user_code():
            return app(prog_name="plaudit", standalone_mode=False)
    except PlauditError as error:
        print_error(error)
        return USER_ERROR
    except _UsageError as error:
        # No message means that a group was called without a command and has already printed its help.
        if message := error.format_message():
            print_error(f"{message.rstrip('.')}; see {error.ctx.command_path} --help")
        return USER_ERROR
    except Interrupted as stop:
        print_error(str(stop))
        return stop.exit_code
    except Terminated:
        return TERMINATED
    except (KeyboardInterrupt, typer.Abort):
        return ABORTED
