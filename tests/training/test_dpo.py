"""The stage dpo: its losses against plain transformers, its reference, its metrics and its data."""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.algorithms.catalogue import PREFERENCE_LOSSES
from plaudit.algorithms.interface import LossOutputs
from plaudit.batching.batches import make_batches
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.load import load_recipe
from plaudit.config.schema import DpoConfig
from plaudit.errors import PlauditError
from plaudit.models.trunk import trunk_of
from plaudit.runner import run
from plaudit.runs.context import stage_context
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session
from plaudit.training import reference_log_probabilities as reference_module
from plaudit.training.dpo import DpoTask, load_dpo_task, settings_of
from plaudit.training.loop import Trainer
from plaudit.training.metric_sums import MetricSums
from plaudit.training.preference_examples import Preference, WithMismatched
from tiny_models import SIZES
from tiny_runs import tiny_recipe

LORA = {"rank": 4, "alpha": 8.0}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def dpo_recipe(folder: Path, architecture: str = "llama", **changes: Any) -> Path:
    """Write a recipe whose stage dpo starts from random weights."""
    fresh = {"architecture": architecture, "options": {**SIZES[architecture], "initializer_range": 0.3}}
    return tiny_recipe(folder, dpo__model={"fresh": fresh, "tokenizer": str(folder / "tokenizer")}, **changes)


def task_of(recipe: Path, *overrides: str) -> DpoTask:
    loaded = load_recipe(str(recipe), overrides)
    session = start_session(loaded, RunDirectory(Path(loaded.output) / loaded.name))
    return load_dpo_task(stage_context(session, "dpo"))


def moved(model: Any, seed: int = 1) -> None:
    """Move every weight a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


# Against plain transformers -------------------------------------------------------------------------------------------


def plain(model: Any, tree: PromptTree) -> Tensor:
    """Log-probabilities of a tree's responses from a padded batch of whole sequences, [responses]."""
    rows = [tree.prompt + response for response in tree.responses]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    log_probabilities = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    chosen = log_probabilities.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return torch.stack([row[len(tree.prompt) - 1 : len(ids) - 1].sum() for row, ids in zip(chosen, rows, strict=True)])


def losses_of(
    task: DpoTask, examples: Sequence[Example[Preference]], sums: MetricSums, budget: int, pack_length: int
) -> Iterator[Tensor]:
    """The losses of a step's micro-batches; adds their metrics to ``sums``."""
    for build in make_batches([example.tree for example in examples], task.layout, budget, pack_length):
        batch = build()
        for outputs in task.losses(batch, [examples[index].target for index in batch.tree_indices]):
            sums.add_metrics(outputs.metrics)
            yield outputs.loss


def plain_pair(name: str, h: Tensor, mean: Tensor, b: int, w: int) -> Tensor:
    """The loss of a pair at the registry's defaults: b better, w worse."""
    gap = h[b] - h[w]
    if name == "dpo":
        return -logsigmoid(0.1 * gap)
    if name == "cdpo":
        return -0.9 * logsigmoid(0.1 * gap) - 0.1 * logsigmoid(-0.1 * gap)
    if name == "robust_dpo":
        return (-0.9 * logsigmoid(0.1 * gap) + 0.1 * logsigmoid(-0.1 * gap)) / 0.8
    if name == "ipo":
        return (gap - 5) ** 2
    if name == "simpo":
        return -logsigmoid(2 * (mean[b] - mean[w]) - 1)
    odds = mean - torch.log1p(-mean.exp())
    return -mean[b] - 0.1 * logsigmoid(odds[b] - odds[w])


def mismatched_tree(example: Example[Preference]) -> PromptTree:
    assert example.target.mismatched is not None
    return example.target.mismatched.tree


def plain_loss(name: str, policy: Any, reference: Any, examples: list[Example[Preference]]) -> Tensor:
    """The mean loss of the prompts, each computed separately."""
    with torch.no_grad():
        references = [plain(reference, example.tree) for example in examples]
        if name == "kto":
            partners = [mismatched_tree(example) for example in examples]
            z = torch.cat([plain(policy, tree) - plain(reference, tree) for tree in partners]).mean().clamp(min=0)
    losses = []
    for example, ref in zip(examples, references, strict=True):
        tree, ranks = example.tree, example.target.ranks
        found = plain(policy, tree)
        h, mean = found - ref, found / torch.tensor([len(response) for response in tree.responses])
        every = range(len(ranks))
        if name == "kto":
            terms = [torch.sigmoid(-0.1 * (h[i] - z) if ranks[i] == 0 else 0.1 * (h[i] - z)) for i in every]
            losses.append(torch.stack(terms).mean())
        elif name == "plackett_luce":
            order = sorted(every, key=lambda i: ranks[i])  # no ties in these data
            terms = [(0.1 * h[order[k:]]).logsumexp(0) - 0.1 * h[i] for k, i in enumerate(order)]
            losses.append(torch.stack(terms).sum())
        else:
            pairs = [plain_pair(name, h, mean, b, w) for b in every for w in every if ranks[b] < ranks[w]]
            losses.append(torch.stack(pairs).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_loss_and_gradient_equal_plain_transformers(tmp_path: Path, architecture: str, layout: str) -> None:
    recipe = dpo_recipe(tmp_path, architecture)
    for name in PREFERENCE_LOSSES:
        task = task_of(recipe, f"dpo.loss={name}", f"dpo.model.layout={layout}", "seed=3")
        assert task.layout.name == layout
        reference = copy.deepcopy(task.loaded.model).double()
        policy = task.loaded.model.double()
        moved(policy, seed=5)
        examples, sums, found = list(task.begin_step(2)), MetricSums(), torch.zeros(())
        assert (task.reference_kl > 0) == (name == "kto")
        for loss in losses_of(task, examples, sums, 96, 48):
            loss.backward()
            found = found + loss.detach()
        gradients = {key: parameter.grad.clone() for key, parameter in policy.named_parameters()}
        policy.zero_grad()
        expected = plain_loss(name, policy, reference, examples)
        expected.backward()
        assert found.item() == pytest.approx(expected.item(), rel=1e-6), name
        assert sums.means()["loss"] == pytest.approx(expected.item(), rel=1e-6), name
        largest = max(parameter.grad.abs().max() for parameter in policy.parameters())
        for key, parameter in policy.named_parameters():
            torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-5, atol=float(1e-6 * largest), msg=key)


@pytest.mark.parametrize("desirable, undesirable", [(1.0, 2.5), (0.5, 1.0)])
def test_kto_weighs_desirable_and_undesirable_responses(tmp_path: Path, desirable: float, undesirable: float) -> None:
    weights = [f"dpo.desirable_weight={desirable}", f"dpo.undesirable_weight={undesirable}"]
    task = task_of(dpo_recipe(tmp_path), "dpo.loss=kto", *weights)
    reference = copy.deepcopy(task.loaded.model)
    moved(task.loaded.model)
    examples = list(task.begin_step(1))
    expected = []
    with torch.no_grad():
        for example in examples:
            h = plain(task.loaded.model, example.tree) - plain(reference, example.tree) - task.reference_kl
            good = torch.tensor(example.target.ranks) == 0
            terms = torch.where(good, desirable * torch.sigmoid(-0.1 * h), undesirable * torch.sigmoid(0.1 * h))
            assert 0 < good.sum() < len(good)
            expected.append(float(terms.mean()))
        found = sum(float(loss) for loss in losses_of(task, examples, MetricSums(), 8192, 512))
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-5)


FRESH = {"dpo": math.log(2), "cdpo": math.log(2), "robust_dpo": math.log(2), "ipo": 25.0, "kto": 0.5}


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", FRESH)
def test_a_policy_that_is_its_reference(tmp_path: Path, name: str, layout: str) -> None:
    """The loss is ln 2 (IPO: 1 / (2 beta)^2, KTO: 1/2) and every reward is zero, for every split of the batch."""
    task = task_of(dpo_recipe(tmp_path), f"dpo.loss={name}", f"dpo.model.layout={layout}")
    measured = task.measure(0)
    assert measured["held_out/loss"] == pytest.approx(FRESH[name], rel=1e-6)
    assert measured["held_out/accuracy"] == pytest.approx(0.5)
    assert measured["held_out/margin"] == pytest.approx(0, abs=1e-6)
    assert measured["held_out/drift"] == pytest.approx(0, abs=1e-6)
    sums = MetricSums()
    total = sum(loss.item() for loss in losses_of(task, task.begin_step(1), sums, 64, 24))
    assert total == pytest.approx(FRESH[name], rel=1e-5)
    assert sums.means()["chosen_reward"] == pytest.approx(0, abs=1e-5)


def test_metrics_by_hand(tmp_path: Path) -> None:
    task = task_of(dpo_recipe(tmp_path), "dpo.beta=0.5")
    tree = PromptTree((4,), ((5, 6, 1), (7, 1), (8, 9, 10, 1)))
    target = Preference((1, 0, 2), (-6.0, -4.0, -8.0))
    flat, sums = task.inputs([tree], [target], torch.tensor([-5.0, -5.0, -8.0]), 0.0), MetricSums()
    sums.add_metrics(task.with_metrics(LossOutputs(torch.tensor(0.25)), flat, 1).metrics)
    means = task.end_step(1, sums)
    # h is 1, -1, 0. Pairs, better first: (-1, 1) wrong, (-1, 0) wrong, (1, 0) right.
    assert means == pytest.approx(
        {
            "loss": 0.25,
            "accuracy": 1 / 3,
            "chosen_reward": 0.5 * (-1 - 1 + 1) / 3,
            "rejected_reward": 0.5 * (1 + 0 + 0) / 3,
            "chosen_log_probability": -2.5,
            "drift": 0.0,
            "margin": -1 / 3,
        }
    )


def test_metrics_of_labels_by_hand(tmp_path: Path) -> None:
    task = task_of(dpo_recipe(tmp_path), "dpo.loss=kto", "dpo.beta=0.5")
    targets = [Preference((0, 1), (-6.0, -4.0)), Preference((0,), (-1.0,))]
    trees = [PromptTree((4,), ((5, 1), (6, 1))), PromptTree((4,), ((5, 7, 1),))]
    flat, sums = task.inputs(trees, targets, torch.tensor([-5.0, -4.0, -2.0]), 0.5), MetricSums()
    sums.add_metrics(task.with_metrics(LossOutputs(torch.tensor(0.8)), flat, 2).metrics)
    # h is 1, 0, -1 and z is 0.5: desirable 1 right, undesirable 0 right, desirable -1 wrong.
    assert task.end_step(1, sums) == pytest.approx(
        {
            "reference_kl": 0.5,
            "loss": 0.4,
            "accuracy": 2 / 3,
            "chosen_reward": 0.0,
            "rejected_reward": 0.0,
            "chosen_log_probability": -7 / 5,
            "drift": 0.0,
            "margin": 0.0,
        }
    )


# The reference --------------------------------------------------------------------------------------------------------


def references(task: DpoTask) -> list[float]:
    return [number for example in task.train for number in example.target.reference or ()]


def computed(output: str) -> bool:
    return "computing reference log-probabilities" in output


def test_the_reference_is_computed_once_and_never_in_a_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dpo_recipe(tmp_path, dpo__samples=0, dpo__sample_tokens=None, dpo__evaluate_every=1000)
    forwards = []
    original = reference_module.SequenceModule.forward

    def counted(self: Any, batch: Any) -> Tensor:
        forwards.append(torch.is_grad_enabled())
        return original(self, batch)

    monkeypatch.setattr(reference_module.SequenceModule, "forward", counted)
    loaded = load_recipe(str(recipe), ["dpo.token_budget=100000", "dpo.pack_length=100000", "dpo.max_steps=4"])
    folder = run(loaded, ["dpo"])
    assert computed(capsys.readouterr().err)
    # Once for training rows and once for held-out rows; measured before the first and after the last step; four steps.
    assert forwards == [False, False, False, True, True, True, True, False]
    # A second task of the same data and model reads what is kept.
    forwards.clear()
    kept = load_file(folder / "dpo" / "reference.safetensors")
    task = task_of(recipe)
    assert (forwards, computed(capsys.readouterr().err)) == ([], False)
    assert references(task) == kept["training"].tolist()


def test_of_many_examples_the_reference_reads_those_of_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dpo_recipe(tmp_path)
    expected = task_of(recipe).train
    monkeypatch.setattr(reference_module, "TREES_AT_ONCE", 7)
    task = task_of(recipe, "dpo.max_steps=2")
    read = [index for step in (1, 2) for index in task.order.batch(step)]
    assert len(read) == len(set(read)) < len(task.train)
    for index in read:
        found, of_all = task.train[index], expected[index]
        assert found.target.reference == pytest.approx(of_all.target.reference, rel=1e-6)
        assert found.tree == of_all.tree
    kept = load_file(tmp_path / "runs" / "tiny" / "dpo" / "reference.safetensors")
    assert len(kept["training"]) == sum(len(expected[index].tree.responses) for index in read)
    with pytest.raises(IndexError, match="no step of the stage reads example"):
        task.train[min(set(range(len(task.train))) - set(read))]


def test_a_stale_reference_is_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, shorter = dpo_recipe(tmp_path), ["dpo.data.max_response_tokens=3", "dpo.data.overlong=truncate"]
    other = ["dpo.model.fresh.options.initializer_range=0.2"]
    for overrides, is_new in (
        ([], True),
        (["dpo.token_budget=64", "dpo.loss=ipo"], False),
        (shorter, True),
        ([*shorter, *other], True),
        ([*other, *shorter, "dpo.beta=0.3"], False),
        ([*other, *shorter, "precision=bf16"], True),
        ([], True),
    ):
        task_of(recipe, *overrides)
        assert computed(capsys.readouterr().err) == is_new, overrides


def test_with_adapters_the_reference_is_the_base_and_no_second_model(tmp_path: Path) -> None:
    recipe = dpo_recipe(tmp_path, dpo__model__lora=LORA)
    (tmp_path / "bare").mkdir()
    bare, task = task_of(dpo_recipe(tmp_path / "bare")), task_of(recipe)
    plain_numbers = references(bare)
    assert references(task) == plain_numbers
    adapter = sum(p.numel() for name, p in task.module.named_parameters() if "lora_" in name)
    whole = sum(p.numel() for p in task.module.parameters())
    assert whole == adapter + sum(p.numel() for p in bare.module.parameters())
    assert sum(p.numel() for p in task.module.parameters() if p.requires_grad) == adapter > 0


def test_adapters_are_trained_and_merged_into_an_ordinary_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    recipe = dpo_recipe(tmp_path, dpo__model__lora=LORA)
    folder = run(load_recipe(str(recipe), ["dpo.max_steps=3"]), ["dpo"])
    model = AutoModelForCausalLM.from_pretrained(folder / "dpo" / "model")
    assert (folder / "dpo" / "model" / "adapter" / "adapter_model.safetensors").exists()
    base = task_of(recipe).loaded.model.get_base_model()
    tree = PromptTree((4, 5), ((6, 7, 1),))
    with torch.no_grad(), task_of(recipe).loaded.model.disable_adapter():
        assert (plain(model, tree) - plain(base, tree)).abs().max() > 1e-4


def test_sequence_log_probabilities_are_float32_under_bf16(tmp_path: Path) -> None:
    task = task_of(dpo_recipe(tmp_path), "precision=bf16", "dpo.model.dtype=bfloat16")
    (build, *_) = make_batches([example.tree for example in task.train[:4]], task.layout, 1000, 500)
    with task.session.autocast():
        assert task.module(build()).dtype == torch.float32


# Data -----------------------------------------------------------------------------------------------------------------


def test_unpaired_labels_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "prompt": f"w{number % 20} w{number}",
            "completion": f" w{number} good w2" if label else f" w{number} bad",
            "label": label,
        }
        for number in range(24)
        for label in (True, False)
        if (number + label) % 3
    ]
    recipe = dpo_recipe(tmp_path, dpo__loss="kto", dpo__epochs=5)
    write_rows(tmp_path / "labels.jsonl", rows)
    sources = f"dpo.data.sources=[{tmp_path}/labels.jsonl]"
    task = task_of(recipe, sources)
    labels = [example.target.ranks for example in (*task.train, *task.held_out)]
    assert sorted(labels) == sorted((0,) if row["label"] else (1,) for row in rows)
    assert "(unpaired_preference)" in capsys.readouterr().err
    for example in task.train:
        partner, prompt = example.target.mismatched, example.tree.prompt
        assert partner is not None
        assert partner.reference is not None
        assert (partner.tree.prompt, len(partner.tree.responses)) == (prompt, 1)
        others = {other.tree.responses[0] for other in task.train if other.tree.prompt != prompt}
        assert partner.tree.responses[0] in others  # every response names its own prompt
    folder = run(load_recipe(str(recipe), ["name=labels", sources, "dpo.optimizer.learning_rate=0.03"]), ["dpo"])
    last = json.loads((folder / "dpo" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["accuracy"], last["loss"]) == (1.0, pytest.approx(0.0, abs=0.4))
    assert last["margin"] > 1
    with pytest.raises(PlauditError, match="gives labeled or response or prompt rows, but ranking rows are needed"):
        task_of(recipe, sources, "dpo.loss=dpo")


def test_mismatched_responses_belong_to_other_prompts() -> None:
    trees = [PromptTree((prompt,), ((prompt, word, 1),)) for prompt in (4, 5) for word in range(10, 15)]
    examples = [Example(tree, Preference((0,))) for tree in trees]
    for tree, given in zip(trees, WithMismatched(examples, 64, seed=0), strict=True):
        partner = mismatched_tree(given)
        assert (given.tree, partner.prompt) == (tree, tree.prompt)
        assert partner.responses[0][0] != tree.prompt[0]
    (alone,) = WithMismatched(examples[:1], 64, seed=0)
    assert mismatched_tree(alone) == PromptTree((4,), ((4, 10, 1),))


def test_mismatched_responses_fit_the_context(tmp_path: Path) -> None:
    long = " ".join(f"w{number % 20}" for number in range(40))
    rows = [
        {"prompt": "w1", "completion": " " + long, "label": True},
        {"prompt": long, "completion": " w2", "label": False},
    ]
    recipe = dpo_recipe(tmp_path, dpo__loss="kto", dpo__data={"sources": ["labels"], "held_out_fraction": 0.0})
    write_rows(tmp_path / "labels.jsonl", rows)
    task = task_of(recipe, f"dpo.data.sources=[{tmp_path}/labels.jsonl]")
    partners = {len(example.tree.prompt): mismatched_tree(example) for example in task.train}
    assert {size: len(tree.responses[0]) for size, tree in partners.items()} == {1: 2, 40: 24}


def test_uninformative_prompts_are_dropped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": f"w{number}", "responses": ["w1 w2 w3", "w1 w2 w4" if number < 5 else "w5 w2"], "ranks": [0, 1]}
        for number in range(20)
    ]
    recipe = dpo_recipe(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", rows)
    cut = ["dpo.data.max_response_tokens=2", "dpo.data.overlong=truncate", "dpo.data.held_out_fraction=0"]
    task = task_of(recipe, f"dpo.data.sources=[{tmp_path}/pairs.jsonl]", *cut)
    assert len(task.train) == 15
    assert "5 rows dropped: responses have the same tokens" in capsys.readouterr().err


GOOD = [
    {"prompt": f"w{number % 20} w{number % 7}", "chosen": f" w{number % 5} good", "rejected": f" w{number % 5} bad"}
    for number in range(40)
]


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_every_loss_learns_what_is_preferred(tmp_path: Path, name: str) -> None:
    recipe = dpo_recipe(tmp_path, dpo__loss=name, dpo__optimizer={"learning_rate": 0.01}, dpo__epochs=3)
    write_rows(tmp_path / "pairs.jsonl", GOOD)
    folder = run(load_recipe(str(recipe), [f"dpo.data.sources=[{tmp_path}/pairs.jsonl]"]), ["dpo"])
    first, *_, last = map(json.loads, (folder / "dpo" / "metrics.jsonl").read_text().splitlines())
    # KTO's accuracy is over single responses: on which side of the estimated KL they are.
    assert last["held_out/accuracy"] > (0.8 if name == "kto" else 0.95)
    assert last["held_out/margin"] > first["held_out/margin"]
    assert last["held_out/loss"] < first["held_out/loss"]


def test_kto_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(dpo_recipe(tmp_path, dpo__loss="kto")))
    folder = run(recipe, ["dpo"]) / "dpo"
    expected, lines = load_file(folder / "model" / "model.safetensors"), (folder / "metrics.jsonl").read_text()

    class KilledError(Exception):
        pass

    original = Trainer.checkpoint

    def dies_after_step_2(self: Trainer[Any], step: int) -> None:
        original(self, step)
        if step == 2:
            raise KilledError

    folder.rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "checkpoint", dies_after_step_2)
        with pytest.raises(KilledError):
            run(recipe, ["dpo"])
    run(recipe, ["dpo"])
    found = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for one, other in zip(lines.splitlines(), (folder / "metrics.jsonl").read_text().splitlines(), strict=True):
        assert json.loads(one) | {"seconds": 0} == json.loads(other) | {"seconds": 0}


# Configuration --------------------------------------------------------------------------------------------------------


def test_every_setting_of_a_loss_is_a_key() -> None:
    keys = {setting for entry in PREFERENCE_LOSSES.values() for setting in entry.defaults}
    assert keys == {"beta", "label_smoothing", "margin", "desirable_weight", "undesirable_weight"}
    assert keys <= set(DpoConfig.model_fields)


def test_settings_are_the_configured_ones_or_the_defaults() -> None:
    data = {"sources": ["x"]}
    config = DpoConfig.model_validate({"model": "m", "data": data, "loss": "simpo", "margin": 0.3})
    assert settings_of(config) == {"beta": 2.0, "margin": 0.3}


@pytest.mark.parametrize(
    "override, message",
    [
        ("dpo.loss=dppo", "dpo.loss: expected|dpo.loss=dppo: expected"),
        ("dpo.margin=1.0", "has no effect with loss=dpo; it needs loss=simpo; remove it"),
        ("dpo.label_smoothing=0.1", "has no effect with loss=dpo; it needs loss=cdpo or robust_dpo; remove it"),
        ("dpo.label_smoothing=0.5", "label_smoothing=0.5: expected a number at least 0 and below 0.5 or null"),
        ("dpo.beta=0.0", "beta=0.0: expected"),
        ("dpo.desirable_weight=2.0", "has no effect with loss=dpo; it needs loss=kto; remove it"),
        ("dpo.model.dropout=0.1", "set model.dropout and model.lora.dropout to 0"),
        ("dpo.model.lora={dropout: 0.1}", "set model.dropout and model.lora.dropout to 0"),
        ("dpo.betta=0.1", "unknown key; did you mean beta"),
    ],
)
def test_bad_configurations_are_refused_with_a_remedy(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(PlauditError, match=message):
        load_recipe(str(dpo_recipe(tmp_path)), [override])


def test_later_stages_can_refer_to_it(tmp_path: Path) -> None:
    loaded = RunDirectory(Path("run")).resolve(load_recipe(str(dpo_recipe(tmp_path)), ["rl.model=stage:dpo"]))
    assert loaded.rl is not None
    assert loaded.rl.model.path == "run/dpo/model"
    with pytest.raises(PlauditError, match="dpo does not run before it"):
        load_recipe(str(tmp_path / "recipe.yaml"), ["reward.model=stage:dpo"])


def test_without_a_reference_dropout_may_stay(tmp_path: Path) -> None:
    recipe = load_recipe(str(dpo_recipe(tmp_path)), ["dpo.loss=orpo", "dpo.model.dropout=0.1"])
    assert recipe.dpo is not None
    assert recipe.dpo.model.dropout == 0.1


def test_the_trunk_is_in_evaluation_mode_during_measurements(tmp_path: Path) -> None:
    task = task_of(dpo_recipe(tmp_path))
    assert not trunk_of(task.loaded.model).training
