"""The command line: bad input is one line and exit code 2, help imports nothing heavy, commands reach the runner."""

import json
import logging
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import plaudit
from command_line import run_command
from plaudit.cli.main import app
from plaudit.config.load import load_recipe
from plaudit.config.schema import Recipe
from plaudit.errors import Interrupted, PlauditError

COMMANDS = sorted(getattr(typer.main.get_command(app), "commands"))  # noqa: B009
RECIPE = """
name: trial
reward: {model: a, data: {sources: [b.jsonl]}}
"""

Plaudit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plaudit:
    """Return a function that runs ``plaudit`` with arguments in an empty folder: exit code, output, error output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trial.yaml").write_text(RECIPE)

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command(capsys, monkeypatch, *arguments)

    return run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[str] | None, bool]]:
    """Replace the runner with one that only records its calls."""
    noted: list[tuple[str, Sequence[str] | None, bool]] = []

    def run(
        recipe: Recipe,
        stages: Sequence[str] | None,
        restart: bool,
        confirm: Callable[[str], bool],
    ) -> Path:
        assert confirm("not at a terminal")
        noted.append((f"{recipe.name} seed {recipe.seed}", stages, restart))
        return Path(recipe.output) / recipe.name

    _replace_runner(monkeypatch, run)
    return noted


def _replace_runner(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    def iterate(recipe: Recipe, *arguments: Any) -> Iterator[Any]:
        run(recipe, *arguments)
        folder = Path(recipe.output, recipe.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").touch()
        yield from ()

    runner = ModuleType("plaudit.runner")
    runner.iterate = iterate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plaudit.runner", runner)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run", "storys"], "storys: no such recipe; did you mean stories? choose one of "),
        (["run", "trial.yaml", "reward.kl=1"], "reward.kl=1: unknown key; "),
        (["run", "trial.yaml", "reward.epochs=[1]"], "reward.epochs=[1]: expected a number above 0, not [1]"),
        (["run", "trial.yaml", "seed"], "seed: expected key=value, such as rl.kl.coefficient=0.1"),
        (["run", "trial.yaml", "reward.model=stage:sft"], "trial.yaml: reward.model.path: stage:sft: sft is not "),
        (["sft", "trial.yaml"], "trial: this recipe has no section sft; add it, or choose one of: reward"),
        (["run"], "Missing argument 'RECIPE'; see plaudit run --help"),
        (["run", "trial.yaml", "--resart"], "No such option: --resart"),
        (["rnu", "trial.yaml"], "No such command 'rnu'. Did you mean 'run'?; see plaudit --help"),
        (["recipes", "storys"], "storys: no such recipe; did you mean stories?"),
        (["recipes", "a", "b"], "Got unexpected extra argument"),
        (["data", "inspect", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command: Plaudit, arguments: list[str], message: str) -> None:
    code, output, error = command(*arguments)
    assert (code, output) == (2, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_several_problems_are_a_line_each(command: Plaudit) -> None:
    code, _, error = command("run", "trial.yaml", "reward.a=1", "reward.epochs=-1")
    assert code == 2
    first, second = error.splitlines()
    assert first.startswith("reward.epochs=-1: expected a number above 0")
    assert second.startswith("reward.a=1: unknown key")


def test_errors_of_a_run_are_printed_as_they_are(command: Plaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a/path.jsonl line 3: [bold]no[/bold] text " + "and so on " * 30

    def fail(*_: object) -> None:
        raise PlauditError(text)

    _replace_runner(monkeypatch, fail)
    assert command("run", "trial.yaml") == (2, "", text + "\n")


@pytest.mark.parametrize(
    "exception, code, message",
    [
        (Interrupted(2), 130, f"{Interrupted(2)}\n"),
        (Interrupted(15), 143, f"{Interrupted(15)}\n"),
    ],
)
def test_interruptions_keep_the_shells_exit_codes(
    command: Plaudit, monkeypatch: pytest.MonkeyPatch, exception: BaseException, code: int, message: str
) -> None:
    def interrupted(*_: object) -> None:
        raise exception

    _replace_runner(monkeypatch, interrupted)
    assert command("run", "trial.yaml") == (code, "", message)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_outside_of_training_keep_the_shells_exit_codes(
    command: Plaudit, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    _replace_runner(monkeypatch, lambda *_: signal.raise_signal(number))
    assert command("run", "trial.yaml") == (code, "", "")


def test_a_second_sigterm_keeps_the_exit_code() -> None:
    script = """
import os, signal, sys
from plaudit.cli import main
def stop(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
main.app = stop
main.main()
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 143


@pytest.mark.parametrize("exception", ["SystemExit(0)", "KeyboardInterrupt", "GeneratorExit"])
def test_user_code_cannot_end_the_command_in_silence(command: Plaudit, exception: str) -> None:
    name = exception.partition("(")[0]
    Path(f"ends_{name}.py").write_text(f"raise {exception}\n")
    code, _, error = command("run", "trial.yaml", f"plugins=[ends_{name}]")
    assert code == 2
    assert error.startswith(f"plugins: importing ends_{name} raised {name} at ends_{name}.py:1: ")


@pytest.mark.parametrize(
    "error, message",
    [
        (
            OSError(28, "", "runs/a"),
            "runs/a: No space left on device; free some space, then run the same command again",
        ),
        (OSError(30, "", "runs/a"), "runs/a: Read-only file system; choose another place"),
        (OSError(36, "", "runs/a"), "runs/a: File name too long; choose a shorter name"),
        (RuntimeError("while serializing: (os error 28)"), "No space left on device; free some space"),
    ],
)
def test_errors_of_the_operating_system_are_one_line(
    command: Plaudit, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("plaudit.plugins._is_from_outside", lambda _: False)
    _replace_runner(monkeypatch, fail)
    code, output, shown = command("run", "trial.yaml")
    assert (code, output, shown.count("\n")) == (2, "", 1)
    assert shown.startswith(message)


@pytest.mark.parametrize("output", ["trial.yaml", "trial.yaml/x", "a" * 300, "/proc/x"])
def test_an_output_that_cannot_be_written_is_one_line(command: Plaudit, output: str) -> None:
    Path("b.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 9)
    overrides = [f"output={output}", "reward=null", "report={}"]
    code, _, error = command("run", "trial.yaml", *overrides)
    assert (code, error.count("\n")) == (2, 1), error
    assert output[:200] in error


def test_control_characters_of_messages_are_shown_as_escapes(command: Plaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        logging.getLogger("plaudit.some.module").warning("\x1b]0;title\x07 and \x9b2J")
        raise PlauditError("\x1b[2J \u202e")

    _replace_runner(monkeypatch, fail)
    code, _, error = command("run", "trial.yaml")
    assert code == 2
    assert error == "warning: \\x1b]0;title and \\x9b2J\n\\x1b[2J \\u202e\n"


def test_other_errors_are_not_hidden(command: Plaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of Plaudit or of a library keeps its traceback; json.loads accepts none of the runner's arguments."""
    monkeypatch.setattr("plaudit.plugins._is_from_outside", lambda _: False)
    _replace_runner(monkeypatch, json.loads)
    with pytest.raises(TypeError):
        command("run", "trial.yaml")


def test_commands_run_the_recipe_or_one_stage_of_it(command: Plaudit, runs: list[Any]) -> None:
    assert command("run", "trial.yaml", "seed=3")[0] == 0
    assert command("reward", "trial.yaml", "--restart", "seed=4")[0] == 0
    assert runs == [("trial seed 3", None, False), ("trial seed 4", ["reward"], True)]


@pytest.mark.usefixtures("command")
def test_python_calls_do_what_the_commands_do(runs: list[Any]) -> None:
    assert plaudit.run("trial.yaml", "seed=3").folder == Path("runs/trial")
    assert plaudit.reward("trial.yaml", "output=elsewhere", restart=True).folder == Path("elsewhere/trial")
    assert runs == [("trial seed 3", None, False), ("trial seed 0", ["reward"], True)]
    plaudit.run("trial.yaml", {"seed": 5}, only="reward")
    assert runs[-1] == ("trial seed 5", ["reward"], False)
    with pytest.raises(PlauditError, match="has no section rl"):
        plaudit.rl("trial.yaml")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = plaudit.nonsense


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(command: Plaudit, name: str) -> None:
    code, output, _ = command(name, "--help")
    assert code == 0
    assert f"plaudit {name}" in output.split("Example")[1]


def test_there_is_a_command_for_every_part_of_the_readme() -> None:
    assert {"run", "sft", "reward", "dpo", "rl", "evaluate", "report", "recipes", "chat", "data", "lab"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_need_no_download(command: Plaudit, name: str) -> None:
    """They name the quickstart, with overrides that it accepts, or a file of the reader."""
    example = command(name, "--help")[1].split("Example: ")[1].split("╭")[0].split(" > ")[0]
    _, _, *arguments = shlex.split(example)
    named = [argument for argument in arguments if re.fullmatch(r"[a-z-]+(\.yaml|\.jsonl)?", argument)]
    shipped = {"quickstart"} if {"quickstart"} & set(named) else set()
    assert shipped or name in {"lab", "data", "dpo"}
    assert not {"stories", "helpful", "helpful-dpo", "rankings"} & set(named)
    if shipped and name not in {"chat", "recipes"}:
        load_recipe("quickstart", [argument for argument in arguments if "=" in argument])


def test_every_command_is_tested() -> None:
    registered = [entry.name or getattr(entry.callback, "__name__", "") for entry in app.registered_commands]
    assert sorted(COMMANDS) == sorted([*registered, *(str(group.name) for group in app.registered_groups)])


def test_help_without_a_command_lists_all_commands(command: Plaudit) -> None:
    code, output, _ = command()
    assert (code, output) == (0, command("--help")[1])
    assert all(f" {name} " in output for name in COMMANDS)


def test_version(command: Plaudit) -> None:
    from importlib.metadata import version

    assert command("-v") == (0, f"plaudit {version('plaudit')}\n", "")


def test_recipes_are_listed_and_printed(command: Plaudit) -> None:
    code, output, _ = command("recipes")
    assert code == 0
    assert "stories" in output
    assert "pythia-tldr" in output
    printed = command("recipes", "stories")[1]
    Path("mine.yaml").write_text(printed)
    assert load_recipe("mine.yaml") == load_recipe("stories")


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
sys.argv = ["plaudit", "--help"]
from plaudit.cli.main import app, main
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "transformers", "datasets", "accelerate", "peft", "numpy", "pydantic", "matplotlib", "yaml"}
print(sorted(heavy & set(sys.modules)), len(sys.modules) < 700)
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[] True"


def test_module_runs_as_the_command_does(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "plaudit", "run", "nowhere.yaml"]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "nowhere.yaml: no such file; check the path\n"


def test_libraries_are_quiet_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from plaudit.cli.console import quiet_libraries

    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    quiet_libraries()
    assert (os.environ["TRANSFORMERS_VERBOSITY"], os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]) == ("info", "1")


# Messages and errors --------------------------------------------------------------------------------------------------


def test_debug_shows_the_traceback_and_the_cause(command: Plaudit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        try:
            raise ZeroDivisionError("by nothing")
        except ZeroDivisionError as cause:
            raise PlauditError("the file is broken") from cause

    _replace_runner(monkeypatch, fail)
    assert command("run", "trial.yaml") == (2, "", "the file is broken\n")
    code, output, error = command("reward", "trial.yaml", "--debug")
    assert (code, output) == (2, "")
    assert "ZeroDivisionError: by nothing" in error
    assert "test_main.py" in error
    assert error.endswith("\nthe file is broken\n")
    assert command("run", "trial.yaml")[2] == "the file is broken\n"


def _talk(*_: object) -> Path:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("plaudit.some.module").log(level, "[b]level %d[/b]", level)
    return Path("runs/trial")


@pytest.mark.parametrize(
    "options, shown",
    [
        ([], ["[b]level 20[/b]", "warning: [b]level 30[/b]"]),
        (["--quiet"], ["warning: [b]level 30[/b]"]),
        (["--verbose"], ["[b]level 10[/b]", "[b]level 20[/b]", "warning: [b]level 30[/b]"]),
    ],
)
def test_messages_have_levels_and_go_to_standard_error(
    command: Plaudit, monkeypatch: pytest.MonkeyPatch, options: list[str], shown: list[str]
) -> None:
    _replace_runner(monkeypatch, _talk)
    assert command("run", "trial.yaml", *options) == (0, "", "\n".join(shown) + "\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "data"] + ["data inspect"])
def test_every_command_has_the_options_for_messages(command: Plaudit, name: str) -> None:
    output = command(*name.split(), "--help")[1]
    assert all(option in output for option in ("--quiet", "--verbose", "--debug"))


def test_quiet_and_verbose_contradict_each_other(command: Plaudit) -> None:
    code, output, error = command("recipes", "--quiet", "--verbose")
    assert (code, output) == (2, "")
    assert "give one of them" in error
