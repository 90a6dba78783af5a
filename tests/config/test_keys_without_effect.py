"""Setting a key without effect is an error with place and remedy, and such a key is never written."""

from pathlib import Path

import pytest

from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES, PREFERENCE_LOSSES
from plaudit.config.load import dump, load_recipe, shipped_recipes
from plaudit.errors import PlauditError

RECIPE = """
name: trial
sft:
  model: a
  data: {sources: [rows.jsonl]}
reward:
  model: a
  data: {sources: [rows.jsonl]}
dpo:
  model: a
  data: {sources: [rows.jsonl]}
rl:
  model: a
  prompts: {sources: [rows.jsonl]}
  rewards: [{name: r, kind: function, function: "m:f"}]
evaluate:
  models: {base: a}
  baseline: base
  prompts: {sources: [rows.jsonl]}
  rewards: [{name: r, kind: function, function: "m:f"}]
"""
GROUPS = "rl.responses_per_prompt=2"
SINGLE = ["rl.epochs=1", "rl.minibatches=1"]
FRESH = "sft.model={fresh: {}, tokenizer: t}"
PAIRS = ["rl.objective=online_dpo", GROUPS]
BEST = ["rl.objective=best_of_n", GROUPS]

IDLE = [
    # other settings, the key, its value, a word of the reason
    (["sft.optimizer.schedule=constant"], "sft.optimizer.final_fraction", "0.2", "schedule=constant"),
    (["sft.model.layout=padded"], "sft.pack_length", "64", "layout=padded"),
    (["rl.model.layout=padded"], "rl.pack_length", "64", "layout=padded"),
    ([FRESH], "sft.model.quantization", "4bit", "fresh"),
    (["sft.samples=0"], "sft.sample_tokens", "8", "samples=0"),
    (["sft.sample_prompts=[once]"], "sft.samples", "3", "sample_prompts"),
    (["sft.rows=text"], "sft.loss_on", "all", "rows=text"),
    (["sft.data.held_out=[other.jsonl]"], "sft.data.held_out_fraction", "0.2", "held_out"),
    (["sft.data.held_out=[other.jsonl]"], "sft.data.held_out.0.weight", "2", "held-out rows"),
    ([], "sft.data.sources.0.split", "test", "file"),
    ([], "sft.data.sources.0.subset", "en", "file"),
    (["sft.data.sources.0={path: a/b, files: c.jsonl}"], "sft.data.sources.0.split", "test", "files"),
    (["reward.loss=best_of_k"], "reward.margin", "1", "loss=best_of_k"),
    ([], "dpo.margin", "1", "loss=simpo"),
    ([], "dpo.label_smoothing", "0.1", "loss=cdpo or robust_dpo"),
    ([], "dpo.desirable_weight", "2", "loss=kto"),
    (["dpo.loss=simpo"], "dpo.undesirable_weight", "2", "loss=kto"),
    (["evaluate.generation.temperature=0"], "evaluate.generation.top_k", "5", "temperature=0"),
    (["evaluate.generation.temperature=0"], "evaluate.generation.top_p", "0.9", "temperature=0"),
    (
        ["rl.generation.min_new_tokens=8", "rl.generation.max_new_tokens=8"],
        "rl.generation.random_length",
        "true",
        "equal",
    ),
    ([], "evaluate.best_of_model", "base", "best_of"),
    ([], "evaluate.best_of_reward", "r", "best_of"),
    ([], "rl.kl.horizon", "100", "target"),
    (["rl.kl.coefficient=0"], "rl.kl.target", "6", "coefficient=0"),
    (["rl.kl.coefficient=0"], "rl.kl.placement", "loss", "coefficient=0"),
    (["rl.kl.coefficient=0"], "rl.kl.estimator", "k3", "coefficient=0"),
    ([], "rl.overlong_penalty", "2", "overlong_buffer=0"),
    (["rl.held_out_prompts=0"], "rl.evaluate_every", "5", "held_out_prompts=0"),
    (["rl.weights=adapters"], "rl.value_model", "v", "weights=separate"),
    (["rl.weights=shared"], "rl.value_model", "v", "weights=separate"),
    (["rl.weights=shared"], "rl.value_learning_rate", "1e-3", "weights=separate or adapters"),
    (["rl.advantages=reinforce++"], "rl.value_model", "v", "no value function"),
    (["rl.advantages=reinforce++"], "rl.value_learning_rate", "1e-3", "no value function"),
    (["rl.advantages=reinforce++"], "rl.value_clip", "0.1", "no value function"),
    (["rl.advantages=reinforce++"], "rl.value_coefficient", "0.2", "no value function"),
    (["rl.advantages=reinforce++"], "rl.gae_lambda", "0.9", "no value function"),
    (["rl.advantages=reinforce++"], "rl.weights", "shared", "no value function"),
    (["rl.advantages=rloo", GROUPS], "rl.gamma", "0.9", "does not discount"),
    (["rl.policy_loss=policy_gradient"], "rl.clip", "0.1", "policy_loss=policy_gradient"),
    (["rl.policy_loss=policy_gradient"], "rl.clip_high", "0.1", "policy_loss=policy_gradient"),
    (["rl.policy_loss=policy_gradient"], "rl.dual_clip", "3", "policy_loss=policy_gradient"),
    (SINGLE, "rl.clip", "0.1", "epochs=1 and minibatches=1"),
    (SINGLE, "rl.clip_high", "0.1", "epochs=1 and minibatches=1"),
    (SINGLE, "rl.dual_clip", "3", "epochs=1 and minibatches=1"),
    (SINGLE, "rl.value_clip", "0.1", "epochs=1 and minibatches=1"),
    *[
        (PAIRS, f"rl.{key}", value, "objective=online_dpo")
        for key, value in {
            "advantages": "rloo",
            "policy_loss": "gspo",
            "aggregation": "token_mean",
            "gamma": "0.9",
            "gae_lambda": "0.9",
            "clip": "0.1",
            "clip_high": "0.1",
            "dual_clip": "3",
            "importance_correction": "2",
            "importance_mask": "[0.5,5]",
            "value_clip": "0.1",
            "value_coefficient": "0.2",
            "value_learning_rate": "1e-3",
            "value_model": "v",
            "entropy_coefficient": "0.1",
            "whiten_advantages": "true",
            "mask_truncated": "true",
            "weights": "shared",
            "kl.placement": "loss",
            "kl.estimator": "k3",
        }.items()
    ],
    *[
        (BEST, f"rl.{key}", value, "objective=best_of_n")
        for key, value in {
            "scale_rewards": "true",
            "kl.coefficient": "0.1",
            "kl.target": "3",
            "kl.placement": "loss",
            "policy_loss": "gspo",
        }.items()
    ],
]


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a recipe called recipe.yaml in the working directory, so that messages show its bare name."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    return "recipe.yaml"


@pytest.mark.parametrize("others, key, value, reason", IDLE, ids=[f"{key} {reason}" for _, key, _, reason in IDLE])
def test_a_key_without_effect_is_refused(
    recipe_file: str, others: list[str], key: str, value: str, reason: str
) -> None:
    with pytest.raises(PlauditError) as caught:
        load_recipe(recipe_file, [*others, f"{key}={value}"])
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith(f"{key}={value}: ")]
    assert "has no effect" in line
    assert reason in line
    assert line.endswith("; remove it")
    # Only that key is refused; null removes it, and the written recipe can be read.
    recipe = load_recipe(recipe_file, [*others, f"{key}={value}", f"{key}=null"])
    Path("again.yaml").write_text(dump(recipe))
    assert load_recipe("again.yaml") == recipe


def test_a_recipes_key_can_be_removed_on_the_command_line(recipe_file: str) -> None:
    Path("recipe.yaml").write_text(RECIPE.replace("rl:\n", "rl:\n  gae_lambda: 0.9\n"))
    change = ["rl.advantages=grpo", GROUPS]
    with pytest.raises(PlauditError, match=r"^recipe\.yaml: rl\.gae_lambda: .*remove it, or add rl\.gae_lambda=null$"):
        load_recipe(recipe_file, change)
    assert load_recipe(recipe_file, [*change, "rl.gae_lambda=null"]).rl is not None


@pytest.mark.parametrize(
    "overrides, key",
    [
        (["rl.value_learning_rate=null", "rl.weights=shared"], "value_learning_rate"),
        (["rl.advantages=reinforce++", "rl.value_clip=null"], "value_clip"),
        ([*PAIRS, "rl.mask_truncated=false"], "mask_truncated"),
    ],
)
def test_null_and_false_switch_off_and_are_accepted(recipe_file: str, overrides: list[str], key: str) -> None:
    assert not getattr(load_recipe(recipe_file, overrides).rl, key)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_written_shipped_recipe_can_be_read(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "again.yaml").write_text(dump(recipe))
    again = load_recipe(str(tmp_path / "again.yaml"))
    assert again == recipe
    assert dump(again) == dump(recipe)


@pytest.mark.parametrize("objective", ["policy_gradient", "online_dpo", "best_of_n"])
@pytest.mark.parametrize("weights", ["separate", "shared", "adapters"])
@pytest.mark.parametrize("steps", [1, 4])
def test_every_combination_can_be_written_and_read(recipe_file: str, objective: str, weights: str, steps: int) -> None:
    fits = 0
    for advantages in ADVANTAGES:
        for loss in POLICY_LOSSES:
            chosen = {"advantages": advantages, "policy_loss": loss} if objective == "policy_gradient" else {}
            values = ADVANTAGES[advantages].uses_values and objective == "policy_gradient"
            if weights == "shared" and not values:
                continue
            overrides = [f"rl.{key}={value}" for key, value in chosen.items()]
            overrides += [f"rl.objective={objective}", f"rl.weights={weights}", f"rl.epochs={steps}", GROUPS]
            recipe = load_recipe(recipe_file, [*overrides, "rl.minibatches=1"])
            Path("again.yaml").write_text(dump(recipe))
            assert load_recipe("again.yaml") == recipe
            fits += 1
    assert fits or (weights == "shared" and objective != "policy_gradient")


@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
def test_every_preference_loss_can_be_written_and_read(recipe_file: str, loss: str) -> None:
    recipe = load_recipe(recipe_file, [f"dpo.loss={loss}"])
    Path("again.yaml").write_text(dump(recipe))
    assert load_recipe("again.yaml") == recipe


@pytest.mark.parametrize(
    "overrides, place, remedy",
    [
        (["rl.responses_per_prompt=100000000"], "rl.responses_per_prompt", "the limit is 1,000,000"),
        (["rl.prompts_per_iteration=1000001"], "rl.prompts_per_iteration", "1,000,001 responses per iteration"),
        (["evaluate.best_of=[2,100000000]"], "evaluate.best_of.1", "100,000,000 responses per prompt are too many"),
        (["reward.members=1001"], "reward.members", "the limit is 1000"),
        (["rl.advantages=rloo"], "rl.responses_per_prompt", "at least 2"),
        (["rl.dynamic_sampling=1"], "rl.responses_per_prompt", "at least 2"),
        (["rl.objective=best_of_n"], "rl.responses_per_prompt", "at least 2"),
        (["rl.generation.top_k=5"], "rl.importance_correction", "importance_correction=2"),
        (["rl.importance_correction=2", "rl.importance_mask=[0.5,5]"], "rl.importance_mask", "remove one of them"),
        (["rl.importance_mask=[2,5]"], "rl.importance_mask", "two numbers around 1"),
        (["rl.importance_mask=[0.5]"], "rl.importance_mask", "two numbers around 1"),
        (["rl.generation.temperature=0"], "temperature=0", "set a temperature above 0"),
        (["rl.overlong_buffer=100"], "overlong_buffer=100", "lower it"),
        (["rl.minibatches=100"], "minibatches=100", "prompts_per_iteration"),
        (["rl.model.dropout=0.1"], "rl.model", "model.dropout=0"),
        (["rl.generation.min_new_tokens=99"], "min_new_tokens=99", "lower it"),
        ([*PAIRS, "rl.kl.coefficient=0"], "coefficient=0", "above 0"),
        (
            ["rl.advantages=grpo", GROUPS, "rl.kl.estimator=k3"],
            "rl.kl.estimator=k3",
            "or kl.placement=loss as in its paper, or advantages=dr_grpo",
        ),
    ],
)
def test_impossible_combinations_are_refused_at_their_place(
    recipe_file: str, overrides: list[str], place: str, remedy: str
) -> None:
    with pytest.raises(PlauditError) as caught:
        load_recipe(recipe_file, overrides)
    assert place in str(caught.value)
    assert remedy in str(caught.value)


def test_top_k_needs_no_correction_where_nothing_is_weighed(recipe_file: str) -> None:
    assert load_recipe(recipe_file, [*PAIRS, "rl.generation.top_k=5"]).rl is not None
