"""YAML and overrides become a checked recipe; every kind of mistake gives one line with its place and the remedy."""

from pathlib import Path

import pytest

from plaudit.config.load import dump, load_recipe, shipped_recipe
from plaudit.config.schema import EvaluateConfig, ModelConfig, ModelReward, Recipe
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory

RECIPE = """
name: trial
sft:
  model: some/folder
  data: {sources: [a.jsonl, {path: b.jsonl, weight: 2}]}
rl:
  model: stage:sft
  prompts: {sources: [prompts.jsonl]}
  optimizer: {learning_rate: 1e-4}
  kl: {coefficient: 0.2}
  rewards:
    - {name: good, kind: function, function: "module:name"}
    - {name: short, kind: function, function: "module:other", weight: -1}
"""


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a recipe called recipe.yaml in the working directory, so that messages show its bare name."""
    monkeypatch.chdir(tmp_path)
    path = Path("recipe.yaml")
    path.write_text(RECIPE)
    return path


def load(*overrides: str) -> Recipe:
    return load_recipe("recipe.yaml", list(overrides))


def problem(*overrides: str) -> str:
    with pytest.raises(PlauditError) as caught:
        load(*overrides)
    return str(caught.value)


@pytest.mark.usefixtures("recipe_file")
class TestValues:
    def test_strings_are_accepted_as_models_and_sources(self) -> None:
        recipe = load()
        assert recipe.sft is not None
        assert recipe.sft.model == ModelConfig(path="some/folder")
        assert [(source.path, source.weight) for source in recipe.sft.data.sources] == [
            ("a.jsonl", 1.0),
            ("b.jsonl", 2.0),
        ]

    def test_floats_without_a_point_are_numbers(self) -> None:
        recipe = load("rl.gamma=99e-2")
        assert recipe.rl is not None
        assert recipe.rl.optimizer.learning_rate == 0.0001
        assert recipe.rl.gamma == 0.99

    def test_absent_sections_are_stages_that_do_not_run(self) -> None:
        assert load().reward is None


@pytest.mark.usefixtures("recipe_file")
class TestOverrides:
    def test_values_are_yaml_and_the_last_one_wins(self) -> None:
        recipe = load("seed=1", "seed=2", "trackers=[tensorboard, wandb]", "rl.value_clip=null", "description='a: b=c'")
        assert recipe.rl is not None
        assert (recipe.seed, recipe.trackers, recipe.rl.value_clip) == (2, ["tensorboard", "wandb"], None)
        assert recipe.description == "a: b=c"

    def test_neighbors_keep_their_values(self) -> None:
        recipe = load("rl.kl.target=6")
        assert recipe.rl is not None
        assert (recipe.rl.kl.coefficient, recipe.rl.kl.target) == (0.2, 6.0)

    def test_list_entries_by_index(self) -> None:
        recipe = load("rl.rewards.1.weight=-0.5")
        assert recipe.rl is not None
        assert [source.weight for source in recipe.rl.rewards] == [1.0, -0.5]

    def test_missing_sections_are_made(self) -> None:
        recipe = load("sft.optimizer.schedule=constant", "report.title=Hello")
        assert recipe.sft is not None
        assert recipe.report is not None
        assert (recipe.sft.optimizer.schedule, recipe.report.title) == ("constant", "Hello")

    def test_a_model_given_as_a_string_can_be_completed(self) -> None:
        recipe = load("sft.model.dropout=0.1", "sft.data.sources.0.limit=5")
        assert recipe.sft is not None
        assert recipe.sft.model == ModelConfig(path="some/folder", dropout=0.1)
        assert (recipe.sft.data.sources[0].path, recipe.sft.data.sources[0].limit) == ("a.jsonl", 5)

    def test_null_removes_a_stage(self) -> None:
        assert load("rl=null").rl is None


@pytest.mark.usefixtures("recipe_file")
class TestMistakes:
    @pytest.mark.parametrize(
        "override, message",
        [
            ("rl.kl.coeficient=1", "rl.kl.coeficient=1: unknown key; did you mean coefficient?"),
            ("rll.gamma=1", "rll.gamma=1: rll: unknown key; did you mean rl?"),
            (
                "rl.learning_rate=1e-5",
                "rl.learning_rate=1e-5: unknown key; did you mean rl.optimizer.learning_rate?",
            ),
            (
                "rl.kl.xyz=1",
                "rl.kl.xyz=1: unknown key; known keys: placement, estimator, coefficient, target, horizon, budget",
            ),
            ("rl.algorithm=grpo", "rl.algorithm=grpo: unknown key; did you mean advantages=grpo?"),
            ("rl.iterations=many", 'rl.iterations=many: expected a whole number above 0, not "many"'),
            ("rl.iterations=yes", "rl.iterations=yes: expected a whole number above 0, not true"),
            ("seed=1.5", "seed=1.5: expected a whole number, not 1.5"),
            ("rl.gamma=3", "rl.gamma=3: expected a number from 0 to 1, not 3"),
            ("rl.kl.target=0", "rl.kl.target=0: expected a number above 0 or null, not 0"),
            (
                "rl.advantages=gea",
                "rl.advantages=gea: expected gae, rloo, grpo, dr_grpo, reinforce++, reinforce++_baseline, remax or "
                'module:function, not "gea"; did you mean gae?',
            ),
            ("sft.data=7", "sft.data=7: expected keys and values, not 7"),
            (
                "rl.rewards=[]",
                "rl.rewards=[]: expected a list of entries with keys and values (in Python also a function) "
                "(at least 1), not []",
            ),
            (
                "rl.kl={coefficient: -1}",
                "rl.kl={coefficient: -1}: rl.kl.coefficient: expected a number at least 0, not -1",
            ),
            ("rl.rewards.2.weight=1", "rl.rewards.2.weight=1: rl.rewards has no entry 2"),
            ("rl.rewards.x=1", "rl.rewards.x=1: rl.rewards has no entry x"),
            ("name.first=a", "name.first=a: name is a single value, trial, and has no keys"),
            ("seed", "seed: expected key=value, such as rl.kl.coefficient=0.1"),
            ("rl..kl=1", "rl..kl=1: expected key=value, such as rl.kl.coefficient=0.1"),
            (
                "evaluate.baseline=sft",
                "recipe.yaml: evaluate.models: required key is missing; expected a mapping from names",
            ),
        ],
    )
    def test_one_line_with_the_place(self, override: str, message: str) -> None:
        assert problem(override).splitlines()[0].startswith(message)

    @pytest.mark.parametrize(
        "line, message",
        [
            (
                "sft: {model: a, data: {sources: [x]}, epoch: 2}",
                "recipe.yaml: sft.epoch: unknown key; did you mean epochs?",
            ),
            (
                "sft: {model: {lora: {}, dtype: float32}, data: {sources: [x]}}",
                "recipe.yaml: sft.model: set exactly one of path and fresh",
            ),
            (
                "sft: {model: {path: a, lora: {targets: [1]}}, data: {sources: [x]}}",
                "recipe.yaml: sft.model.lora.targets: expected a string or a list of strings, not [1]",
            ),
            ("seed: '3'", 'recipe.yaml: seed: expected a whole number, not "3"'),
            ("seed: 3\nseed: 4", "recipe.yaml:3: not valid YAML: key 'seed' is given twice"),
            ("seed: [1", "recipe.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
            ("a: b: c", "recipe.yaml:2: not valid YAML: mapping values are not allowed here"),
        ],
    )
    def test_in_a_file(self, recipe_file: Path, line: str, message: str) -> None:
        recipe_file.write_text(f"name: trial\n{line}")
        assert problem().startswith(message)

    def test_several_problems_have_a_line_each_and_then_a_count(self) -> None:
        lines = problem(*(f"rl.unknown{index}=1" for index in range(7))).splitlines()
        assert len(lines) == 6
        assert lines[0].startswith("rl.unknown0=1: unknown key")
        assert lines[-1] == "… and 2 more problems"

    @pytest.mark.parametrize("content", ["", "- a\n- b", "plain"])
    def test_a_file_without_keys(self, recipe_file: Path, content: str) -> None:
        recipe_file.write_text(content)
        assert problem() == "recipe.yaml: not a recipe; expected keys and values, such as 'name: my-run'"

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        Path("latin.yaml").write_bytes("name: Zoë".encode("latin-1"))
        Path("folder.yaml").mkdir()
        Path("runs/a").mkdir(parents=True)
        Path("runs/a/config.yaml").touch()
        for name, message in (
            ("nowhere.yaml", "nowhere.yaml: no such file"),
            ("folder.yaml", "folder.yaml: this is a folder; give a YAML file"),
            ("runs/a", "runs/a: this is a folder; give runs/a/config.yaml"),
            ("latin.yaml", "latin.yaml: cannot be read"),
        ):
            with pytest.raises(PlauditError, match=message):
                load_recipe(name)

    def test_unknown_recipe_names_the_nearest_and_all(self) -> None:
        with pytest.raises(PlauditError, match=r"^storys: no such recipe; did you mean stories\? choose one of gpt2"):
            load_recipe("storys")


@pytest.mark.usefixtures("recipe_file")
class TestStageReferences:
    def test_become_folders_and_files_in_every_section(self) -> None:
        recipe = load(
            "evaluate={models: {base: a, tuned: 'stage:rl'}, baseline: base}",
            "evaluate.prompts.sources=['stage:sft/rows.jsonl']",
            "evaluate.rewards=[{name: r, kind: model, path: 'stage:sft'}]",
        )
        assert recipe.evaluate is not None
        resolved = RunDirectory(Path("runs/trial")).resolve(recipe.evaluate)
        assert isinstance(resolved, EvaluateConfig)
        assert resolved.models["tuned"].path == "runs/trial/rl/model"
        assert resolved.models["base"].path == "a"
        assert resolved.prompts.sources[0].path == "runs/trial/sft/rows.jsonl"
        assert isinstance(resolved.rewards[0], ModelReward)
        assert resolved.rewards[0].path == "runs/trial/sft/model"
        assert recipe.evaluate.models["tuned"].path == "stage:rl"

    def test_to_a_stage_that_the_recipe_lacks(self) -> None:
        assert problem("rl.value_model=stage:reward") == (
            "recipe.yaml: rl.value_model: stage:reward: reward is not a stage of this recipe; stages before rl: sft"
        )

    @pytest.mark.parametrize("stage", ["rl", "sft"])
    def test_to_a_stage_that_does_not_run_earlier(self, stage: str) -> None:
        assert problem(f"sft.model.tokenizer=stage:{stage}") == (
            f"recipe.yaml: sft.model.tokenizer: stage:{stage}: {stage} does not run before it; stages before sft: none"
        )


@pytest.mark.usefixtures("recipe_file")
def test_an_override_does_not_change_other_sections_with_the_same_anchor(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: trial\nsft: {model: a, data: &data {sources: [a.jsonl]}}\n"
        "rl: {model: a, prompts: *data, rewards: [{name: r, kind: function, function: 'm:f'}]}\n"
    )
    recipe = load_recipe(str(path), ["rl.prompts.overlong=error", "rl.prompts.sources.0=b.jsonl"])
    assert recipe.sft is not None
    assert recipe.rl is not None
    assert (recipe.rl.prompts.overlong, recipe.rl.prompts.sources[0].path) == ("error", "b.jsonl")
    assert (recipe.sft.data.overlong, recipe.sft.data.sources[0].path) == ("drop", "a.jsonl")


@pytest.mark.usefixtures("recipe_file")
def test_dump_writes_every_value_and_loads_as_the_same_recipe() -> None:
    recipe = load(
        "rl.kl.horizon=1e22",
        "rl.kl.target=6",
        "rl.optimizer.learning_rate=1.41e-5",
        "description='1e-4'",
        "sft.sample_prompts=['no', 'ä']",
    )
    text = dump(recipe)
    assert "clip: 0.2" in text
    assert "reward:" not in text
    Path("again.yaml").write_text(text, encoding="utf-8")
    assert load_recipe("again.yaml") == recipe


def test_a_shipped_recipe_is_loaded_by_name() -> None:
    assert load_recipe("stories", ["seed=5"]).seed == 5
    assert "name: stories" in shipped_recipe("stories")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", ".hidden", "a/b", "/root", "..\\\\b", "C:", "a\\nb", "a b", "ä", "-x", "a" * 101]
)
def test_a_runs_name_is_one_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "r.yaml").write_text(f'name: "{name}"')
    with pytest.raises(PlauditError, match=r"r.yaml: name: .* cannot be the name of a run"):
        load_recipe(str(tmp_path / "r.yaml"))
