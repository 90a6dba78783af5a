"""All hostile cases by name."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile.arguments import ARGUMENTS
from hostile.damage import damages_of
from hostile.http import ANSWERS, Endpoint
from hostile.worlds import World

MODEL_FILES = {
    "policy": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    "chat": ("config.json", "model.safetensors", "tokenizer.json", "plaudit_prompts.json"),
    "judge": ("config.json", "model.safetensors", "score_scale.json", "unscaled.safetensors", "tokenizer.json"),
    "adapter": ("adapter_config.json", "adapter_model.safetensors"),
}
COMMANDS: dict[str, Callable[[World, Path], list[str]]] = {
    "policy": lambda world, folder: [*("sft", world.recipe, f"sft.model={folder}", f"output={folder.parent}")],
    "chat": lambda _, folder: ["chat", str(folder), "--max-new-tokens", "2", "--device", "cpu"],
    "judge": lambda world, folder: ["rl", world.recipe, f"output={folder.parent}", f"rl.rewards.0.path={folder}"],
    "adapter": lambda world, folder: [*("sft", world.recipe, f"sft.model={folder}", f"output={folder.parent}")],
}
RUN_FILES = (
    *("config.yaml", "manifest.json", "metadata.json"),
    *("sft/result.json", "sft/manifest.json", "sft/inputs.json", "sft/.models.json", "sft/model/config.json"),
    *("sft/model/model.safetensors", "rl/metrics.jsonl", "rl/samples.jsonl", "rl/inputs.json", "rl/.models.json"),
)
READ_FILES = {
    "report": ("config.yaml", "metadata.json", "sft/result.json", "rl/metrics.jsonl", "rl/samples.jsonl"),
    "chat": ("config.yaml", "rl/model/config.json", "reward/model/score_scale.json"),
}
"""Files of a finished run that these commands read."""
CHECKPOINT_FILES = ("manifest.json", "state.json", "model.safetensors", "optimizer.safetensors", "task.safetensors")


@dataclass(frozen=True)
class Command:
    """Arguments of ``plaudit``, and a text that the message of a refusal must name."""

    arguments: list[str]
    named: str


Case = Callable[[World, Path], Command]


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    return dict([*_models(), *_runs(), *_readers(), *_checkpoints(), *_arguments(), *_answers()])


def _models() -> Iterator[tuple[str, Case]]:
    for kind, files in MODEL_FILES.items():
        for file in files:
            for name in damages_of(file):
                yield f"{kind} {file}: {name}", _model_case(kind, file, name)


def _model_case(kind: str, file: str, damage: str) -> Case:
    def case(world: World, folder: Path) -> Command:
        copied = shutil.copytree(world.models[kind], folder / kind)
        damages_of(file)[damage](copied / file)
        if kind == "judge":
            shutil.rmtree(world.unfinished_run(folder) / "rl")
        return Command(COMMANDS[kind](world, copied), str(copied))

    return case


def _runs() -> Iterator[tuple[str, Case]]:
    for file in RUN_FILES:
        for name in damages_of(file):
            yield f"run {file}: {name}", _run_case(file, name)


def _run_case(file: str, damage: str) -> Case:
    def case(world: World, folder: Path) -> Command:
        run = world.unfinished_run(folder)
        damages_of(file)[damage](run / file)
        return Command(["rl", world.recipe, f"output={folder}"], str(run))

    return case


def _readers() -> Iterator[tuple[str, Case]]:
    for command, files in READ_FILES.items():
        for file in files:
            for name in damages_of(file):
                yield f"{command} of {file}: {name}", _reader_case(command, file, name)


def _reader_case(command: str, file: str, damage: str) -> Case:
    def case(world: World, folder: Path) -> Command:
        run = shutil.copytree(world.runs / "tiny", folder / "tiny")
        damages_of(file)[damage](run / file)
        own = ["report", world.recipe, f"output={folder}", "report={}"]
        return Command(own if command == "report" else [command, str(run), "--device", "cpu"], str(run))

    return case


def _checkpoints() -> Iterator[tuple[str, Case]]:
    for file in CHECKPOINT_FILES:
        for name in damages_of(file):
            for whole in (False, True):
                yield f"{'all checkpoints' if whole else 'checkpoint'} {file}: {name}", _checkpoint(file, name, whole)


def _checkpoint(file: str, damage: str, whole: bool) -> Case:
    def case(world: World, folder: Path) -> Command:
        run = world.unfinished_run(folder)
        for checkpoint in sorted((run / "rl" / "checkpoints").iterdir())[0 if whole else -1 :]:
            damages_of(file)[damage](checkpoint / file)
        return Command(["rl", world.recipe, f"output={folder}"], str(run))

    return case


def _arguments() -> Iterator[tuple[str, Case]]:
    for arguments in ARGUMENTS:
        yield f"plaudit {' '.join(map(repr, arguments))}"[:80], _arguments_case(arguments)


def _arguments_case(arguments: list[str]) -> Case:
    return lambda world, _: Command([part.replace("RECIPE", world.recipe) for part in arguments], "")


def _answers() -> Iterator[tuple[str, Case]]:
    for name, answer in ANSWERS.items():
        yield f"answer: {name}", _answer_case(answer)


def _answer_case(answer: bytes) -> Case:
    def case(world: World, folder: Path) -> Command:
        run = world.unfinished_run(folder)
        shutil.rmtree(run / "rl")
        url = Endpoint(answer).url
        reward = f"rl.rewards=[{{name: far, kind: http, url: '{url}', timeout: 0.3}}]"
        return Command(["rl", world.recipe, f"output={folder}", reward], url)

    return case
