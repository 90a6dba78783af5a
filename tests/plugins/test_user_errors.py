"""Exceptions of code from outside end as one line with file, line, type and text, wherever they are raised."""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import plaudit
from command_line import run_command
from plaudit import plugins
from plaudit.config.load import load_recipe
from plaudit.config.schema import REWARD_KINDS
from plaudit.config.schema.distribution import STRATEGIES
from plaudit.config.schema.engines import ENGINES
from plaudit.data.formats.registry import FORMATS
from plaudit.errors import Interrupted, PlauditError
from plaudit.registries.layouts import LAYOUTS
from plaudit.registries.stages import STAGES
from plaudit.registry import Registry
from plaudit.runner import run
from tiny_runs import tiny_recipe

REGISTRIES: tuple[Registry[Any], ...] = (STAGES, ENGINES, LAYOUTS, STRATEGIES, FORMATS, REWARD_KINDS)
Plaudit = Callable[..., str]

ENGINE = """
from typing import ClassVar, Literal
from plaudit.config.schema.engines import ENGINES, EngineConfig
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.samples import Sample

class FixedConfig(EngineConfig):
    engine: ClassVar[str] = "faulty:Fixed"
    kind: Literal["fixed"] = "fixed"

class Fixed:
    def __init__(self):
        pass  # __init__

    @classmethod
    def load(cls, config, loaded, processes):
        return cls()

    def generate(self, requests, settings):
        pass  # generate
        return [
            Sample(r.prompt_ids, (7, 1), r.prompt_text, "good", True, (-0.5, -0.5), (0.0, 0.0), r.fields)
            for r in requests
        ]

    def stream(self, requests, settings):
        return in_one_piece(self.generate(requests, settings))

    def update_weights(self, version, tensors):
        pass  # update_weights

    def close(self):
        pass  # close

ENGINES.register("fixed", FixedConfig)
"""

STAGE = """
from plaudit.config.schema import Section
from plaudit.stages.base import Stage
from plaudit.registries.stages import STAGES

class CountConfig(Section):
    words: int = 3

    def without_effect(self):
        pass  # without_effect
        return {}

class CountStage(Stage[CountConfig]):
    name, title, help, example = "count", "Counted words", "Count.", "plaudit run r.yaml --only count"

    def section(self):
        pass  # section
        return CountConfig

    def check(self, config):
        pass  # check

    def run(self, context):
        pass  # run
        return {"words": context.config.words}

    def show(self, directory):
        pass  # show

    def panels(self, stage, config):
        pass  # panels
        return ()

STAGES.register("count", CountStage(), before="evaluate")
"""

LAYOUT = """
from dataclasses import replace
from plaudit.batching.layouts.padded import PADDED
from plaudit.registries.layouts import LAYOUTS

class Mine:
    name = "mine"
    needs_tree_mask = False

    def split(self, trees, token_budget, pack_length):
        pass  # split
        return PADDED.split(trees, token_budget, pack_length)

    def build(self, trees, part):
        pass  # build
        return replace(PADDED.build(trees, part), layout=self)

    def model_inputs(self, batch, needs_mask):
        pass  # model_inputs
        return PADDED.model_inputs(batch, needs_mask)

LAYOUTS.register("mine", Mine())
"""

STRATEGY = """
from contextlib import contextmanager
from typing import ClassVar, Literal
from plaudit.config.schema.distribution import STRATEGIES, StrategyConfig
from plaudit.parallel.single import SingleStrategy

class MineConfig(StrategyConfig):
    strategy: ClassVar[str] = "faulty:Mine"
    several: ClassVar[bool] = False
    kind: Literal["mine"] = "mine"

class Mine(SingleStrategy):
    def __init__(self, *arguments):
        pass  # __init__
        super().__init__(*arguments)

    @contextmanager
    def gathered(self, module):
        pass  # gathered
        yield

    def backward(self, loss):
        pass  # backward
        super().backward(loss)

    def state(self):
        pass  # state
        return super().state()

STRATEGIES.register("mine", MineConfig)
"""

FORMAT = """
from plaudit.data.formats.base import Format
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import ResponseRow

def convert(record, origin, kind):
    if origin.line == 3:
        pass  # convert
    yield ResponseRow(record["prompt"], record["response"], origin)

def fits(record):
    pass  # fits
    return True

FORMATS.register("mine", Format("mine", ("prompt", "response"), (ResponseRow,), convert, matches=fits))
"""

REWARD = """
import torch
from typing import ClassVar, Literal
from plaudit.config.schema import REWARD_KINDS, RewardSourceConfig

class BrevityReward(RewardSourceConfig):
    source: ClassVar[str] = "faulty:Brevity"
    kind: Literal["brevity"] = "brevity"

class Brevity:
    name = "short"

    @classmethod
    def load(cls, config, device):
        pass  # load
        return cls()

    def check_tokenizer(self, tokenizer):
        pass  # check_tokenizer

    def score(self, samples):
        pass  # score
        return torch.zeros(len(samples))

REWARD_KINDS.register("brevity", BrevityReward)
"""

RL = ("rl", "rl.held_out_prompts=1", "rl.iterations=1", "rl.epochs=1", "rl.minibatches=1", "rl.value_clip=null")
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    *((ENGINE, method, (*RL, "rl.generation.engine=fixed")) for method in ("generate", "update_weights", "close")),
    (ENGINE, "__init__", (*RL, "rl.generation.engine=fixed")),
    *(
        (STAGE, method, ("run", "--only", "count", "--only", "report", "count={}", "report={}"))
        for method in ("without_effect", "section", "check", "run", "show", "panels")
    ),
    *((LAYOUT, method, ("sft", "sft.model.layout=mine")) for method in ("split", "build", "model_inputs")),
    *((STRATEGY, method, ("sft", "distributed=mine")) for method in ("__init__", "gathered", "backward", "state")),
    (FORMAT, "convert", ("sft", "sft.data.sources.0.format=mine")),
    (FORMAT, "fits", ("sft",)),
    *((REWARD, method, (*RL, "rl.rewards=[{name: short, kind: brevity}]")) for method in ("load", "score")),
    (REWARD, "check_tokenizer", (*RL, "rl.rewards=[{name: short, kind: brevity}]")),
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose first three stages are finished."""
    path = tiny_recipe(tmp_path_factory.mktemp("user-errors"), pretrain__max_steps=1, sft__max_steps=1)
    run(load_recipe(str(path), ["reward.max_steps=1"]), ["pretrain", "sft", "reward"])
    return path


@pytest.fixture
def module(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file of a plugin that does not exist yet; what it registers is forgotten afterwards."""
    before = [registry.names for registry in REGISTRIES]
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield recipe.parent / "faulty.py"
    sys.modules.pop("faulty", None)
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in {*registry.names} - {*names}:
            registry.unregister(name)


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Plaudit:
    """Return a function that runs ``plaudit`` and returns what it printed to standard error."""

    def run(*arguments: str) -> str:
        code, _, errors = run_command(capfd, monkeypatch, *arguments)
        assert code == 2, errors
        return errors

    return run


@pytest.mark.parametrize(
    "code, method, command", CASES, ids=[f"{case[0].split('class ')[-1].split(':')[0]}-{case[1]}" for case in CASES]
)
def test_an_exception_is_one_line(
    module: Path, recipe: Path, refused: Plaudit, code: str, method: str, command: tuple[str, ...]
) -> None:
    broken = code.replace(f"pass  # {method}\n", f"raise KeyError('{method} is broken')\n")
    assert broken != code
    module.write_text(broken)
    line = 1 + broken[: broken.index("raise KeyError")].count("\n")
    stage, *overrides = command
    name = f"{code.split('register(')[1][1:4]}-{method}".strip("_-")
    arguments = [stage, str(recipe), *overrides, "reward.max_steps=1", "plugins=[faulty]", f"name={name}"]
    # Only the stage under test runs in this run: it starts from the models of the finished run.
    models = recipe.parent / "runs/tiny"
    start = {
        "sft": [f"sft.model.path={models}/pretrain/model"],
        "rl": [f"rl.model={models}/sft/model", "rl.value_model=null"],
    }
    if "rl.rewards=[{name: short, kind: brevity}]" not in command:
        start["rl"].append(f"rl.rewards.0.path={models}/reward/model")
    output = refused(*arguments, *start.get(stage, []))
    assert "Traceback" not in output
    last = output.rstrip("\n").split("\n")[-1]
    assert f" raised KeyError at faulty.py:{line}: '{method} is broken'" in last
    if method == "convert":
        assert "demonstrations.jsonl line 3" in last


def test_debug_shows_the_traceback(module: Path, recipe: Path, refused: Plaudit) -> None:
    module.write_text(STAGE.replace("pass  # show", "raise KeyError('broken')"))
    output = refused("run", str(recipe), "--only", "count", "count={}", "plugins=[faulty]", "name=debug", "--debug")
    assert "Traceback" in output
    assert "KeyError: 'broken'" in output
    assert output.rstrip("\n").split("\n")[-1].startswith("CountStage.show raised KeyError at faulty.py:")


@pytest.mark.parametrize(
    "code, old, new, message",
    [
        (ENGINE, "def close(self)", "def shut(self)", "engine fixed: Fixed has no method close(); add it"),
        (
            ENGINE,
            "def generate(self, requests, settings)",
            "def generate(self, requests)",
            "engine fixed: Fixed.generate is called with (requests, settings), but takes (requests)",
        ),
        (ENGINE, '"faulty:Fixed"', '"faulty:Fixd"', "engine fixed: the module faulty (faulty.py) does not define Fixd"),
        (LAYOUT, "def split(", "def splits(", "layout mine: Mine has no method split("),
        (
            STRATEGY,
            '"faulty:Mine"',
            '"faulty:Other"',
            "distributed: mine: the module faulty (faulty.py) does not define Other",
        ),
        (
            STAGE,
            "def show(self, directory)",
            "def show(self)",
            "stage count: CountStage.show is called with (dir",
        ),
        (REWARD, "def score(", "def scores(", "reward source 'short': Brevity has no method score(samples); add it"),
    ],
)
def test_a_missing_or_different_method_is_named(
    module: Path, recipe: Path, tmp_path: Path, code: str, old: str, new: str, message: str
) -> None:
    module.write_text(code.replace(old, new))
    models = recipe.parent / "runs/tiny"
    overrides = {
        ENGINE: ["rl.generation.engine=fixed", f"rl.rewards.0.path={models}/reward/model"],
        LAYOUT: ["sft.model.layout=mine"],
        STRATEGY: ["distributed=mine"],
        STAGE: ["count={}"],
        REWARD: ["rl.rewards=[{name: short, kind: brevity}]"],
    }[code]
    start = [f"sft.model.path={models}/pretrain/model", f"rl.model={models}/sft/model", "rl.value_model=null"]
    stage = {ENGINE: "rl", REWARD: "rl", STAGE: "count"}.get(code, "sft")
    with pytest.raises(PlauditError) as refused:
        plaudit.run(str(recipe), *overrides, *start, "plugins=[faulty]", f"output={tmp_path}", only=[stage])
    assert str(refused.value).startswith(message)


def test_an_installed_plugin_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_package.py").write_text("import json\n\n\njson.loads('{')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("extras", "broken_package", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    plugins.load_installed_plugins.cache_clear()
    try:
        with pytest.raises(PlauditError) as refused:
            plugins.load_plugins([])
    finally:
        plugins.load_installed_plugins.cache_clear()
        plugins._plugin_packages.discard("broken_package")
    message = str(refused.value)
    assert message.startswith("plugin extras of the installed package broken_package: importing broken_package raised ")
    assert "JSONDecodeError at " in message
    assert "broken_package.py:4: " in message
    assert message.endswith("; repair the package, or run: pip uninstall broken_package")


def test_an_entry_that_cannot_be_imported_is_named() -> None:
    registry: Registry[Any] = Registry("layout", {"mine": "no_such_module:LAYOUT", "other": "json:LAYOUT"})
    with pytest.raises(PlauditError, match=r"^layout mine: cannot import no_such_module:LAYOUT: No module named"):
        registry["mine"]
    with pytest.raises(PlauditError, match=r"^layout other: cannot import json:LAYOUT: .* no attribute 'LAYOUT'"):
        registry["other"]


def test_faults_of_plaudit_and_of_libraries_pass_unchanged() -> None:
    import json

    def decode() -> None:
        with plugins.errors_of_user_code():
            json.loads("{")

    with pytest.raises(json.JSONDecodeError):
        decode()
    for passing in (PlauditError("known"), Interrupted(2), MemoryError("no more")):

        def fail(error: Exception = passing) -> None:
            raise error

        with pytest.raises(type(passing)), plugins.errors_of_user_code():
            fail()
    message = r"^outside raised ValueError at .*test_user_errors\.py:\d+: no message$"
    with pytest.raises(PlauditError, match=message), plugins.errors_of_user_code():
        outside()


def outside() -> None:
    raise ValueError
