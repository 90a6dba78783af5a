"""The accelerations of a model are recorded with reasons; models that run at the same time do not interfere."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forests import forest
from plaudit.batching import batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.config.schema import FreshModel, LoraConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration import tree_attention, trial
from plaudit.models.acceleration.install import DECODING, LAST_MLP, TREES, install
from plaudit.models.acceleration.tree_attention import tree_layout, use_tree_attention
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ScoreModule
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.models.saving import save_model
from tiny_models import tiny_causal_model, tiny_classifier
from tiny_runs import FRESH, write_tokenizer

CPU = torch.device("cpu")
EVERYTHING = "packed batches, tree attention, last-MLP shortcut"


@pytest.mark.parametrize(
    "architecture, expected",
    [
        ("llama", f"{EVERYTHING}, compiled decoding"),
        (
            "opt",
            "packed batches, tree attention, no last-MLP shortcut (no module of the last block is named mlp), comp",
        ),
        ("mistral", "padded batches (packed and padded hidden states differ by "),
        ("bloom", "padded batches (the model rejects a tree attention mask: "),
    ],
)
def test_the_record_says_what_was_chosen_and_why(architecture: str, expected: str) -> None:
    assert str(install(tiny_causal_model(architecture), generates=True)).startswith(expected)


def test_an_acceleration_that_needs_another_one_says_so() -> None:
    found = install(tiny_causal_model("mistral"), generates=True)
    assert found.uses(LAST_MLP)
    assert not found.uses(TREES)
    assert str(found).endswith("no compiled decoding (it needs tree attention)")


def test_a_second_installation_finds_the_first() -> None:
    model = tiny_causal_model("llama")
    assert install(model, generates=True) == install(model, generates=True)


def test_an_unknown_layout_is_refused_with_the_known_names() -> None:
    with pytest.raises(PlauditError, match="paded: unknown layout; did you mean padded"):
        install(tiny_causal_model("llama"), "paded")


def raising(fault: Exception) -> Any:
    def forward(*_: Any, **__: Any) -> Any:
        raise fault

    return forward


def test_the_text_of_a_models_exception_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_causal_model("llama")
    monkeypatch.setattr(tree_attention, "attend", raising(RuntimeError("a bug in\nattention")))
    assert str(install(model).choices[0].fault).endswith("RuntimeError: a bug in attention")


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
@pytest.mark.parametrize("architecture, place", [("bloom", "layout_fault"), ("opt", "last_mlp_fault")])
def test_out_of_memory_is_raised_and_not_taken_for_a_property_of_the_model(
    fault: Exception, architecture: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials of these architectures raise different exceptions."""
    model = tiny_causal_model("llama")
    if place == "layout_fault":
        monkeypatch.setattr(tree_attention, "attend", raising(fault))
    else:
        model.model.layers[-1].mlp.register_forward_hook(lambda *_: None)
        monkeypatch.setattr("plaudit.models.acceleration.last_mlp._scatter", raising(fault))
    with pytest.raises(type(fault)):
        install(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a tiny language model."""
    write_tokenizer(tmp_path / "tokenizer")
    loaded = load_policy(
        ModelConfig(fresh=FreshModel.model_validate(FRESH), tokenizer=str(tmp_path / "tokenizer")), CPU
    )
    save_model(loaded.model, loaded.tokenizer, tmp_path / "tiny-model")
    return tmp_path / "tiny-model"


def test_loading_logs_one_line_for_each_model(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "plaudit.models"):
        load_policy(ModelConfig(path=str(folder), lora=LoraConfig(rank=2)), CPU)
        load_scorer(ModelConfig(path=str(folder), layout="padded"), CPU)
    assert [record.getMessage() for record in caplog.records if record.name == "plaudit.models"] == [
        f"policy {folder}: {EVERYTHING}, compiled decoding",
        f"reward model {folder}: padded batches (as configured), last-MLP shortcut",
    ]


def test_a_wrapped_model_is_tested_inside_its_wrapper(folder: Path) -> None:
    wrapped = load_policy(ModelConfig(path=str(folder), lora=LoraConfig(rank=2)), CPU)
    assert install(wrapped.model, generates=True) == wrapped.acceleration


def test_the_dense_mask_is_made_only_where_a_kernel_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = batches.dense_tree_mask

    def counted(*ids: Tensor) -> Tensor:
        made.append(1)
        return original(*ids)

    monkeypatch.setattr(batches, "dense_tree_mask", counted)
    model, trees = tiny_causal_model("llama"), forest()

    def passes(always: bool) -> int:
        made.clear()
        batch = PACKED.build(trees, [range(len(trees))])
        tree_layout(batch, always)
        for _ in range(2):
            PolicyModule(model)(batch).statistics.log_probabilities.sum().backward()
        PolicyModule(model)(PADDED.build(trees, range(3)))
        return len(made)

    assert passes(always=True) == 1  # the model's own attention reads it: once for a batch, in all layers and passes
    use_tree_attention(model)
    assert passes(always=False) == 1  # too little work for attention tree by tree
    assert passes(always=True) == 0


def test_two_models_in_two_threads_compute_what_they_compute_alone() -> None:
    """The threads take turns in the middle of every layer, so that each would see state left by the other."""
    trees, other_trees = forest(seed=0), forest(seed=1)
    models = [tiny_causal_model("llama", seed=0), tiny_classifier("gpt2", seed=1)]
    modules = [PolicyModule(models[0]), ScoreModule(models[1])]
    made = [PACKED.build(trees, [range(7)]), PACKED.build(other_trees, [[0, 1, 2], [3, 4, 5, 6]])]
    for model, batch in zip(models, made, strict=True):
        assert install(model).uses(TREES)
        tree_layout(batch, always=True)

    def computed(number: int) -> list[Tensor]:
        module, batch = modules[number], made[number]
        output = module(batch)
        flat = output if isinstance(output, Tensor) else output.statistics.log_probabilities
        gradients = torch.autograd.grad((flat * torch.linspace(-1, 1, len(flat))).sum(), list(module.parameters()))
        return [flat.detach(), *gradients]

    alone = [computed(number) for number in (0, 1)]
    barrier = threading.Barrier(2)

    def take_turns(*_: Any) -> None:
        barrier.wait(60)

    hooks = [
        part.register_forward_pre_hook(take_turns)
        for model in models
        for part in model.modules()
        if type(part).__name__ in ("LlamaAttention", "LlamaMLP", "GPT2Attention", "GPT2MLP")
    ]
    assert len(hooks) == 8
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(computed, (0, 1)))
    for found, wanted in zip(together, alone, strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other)


def test_without_numba_the_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    found = install(tiny_causal_model("llama"), generates=True)
    assert not found.uses(DECODING)
    assert str(found).endswith("no compiled decoding (numba is not installed; run: pip install 'plaudit[cpu]')")


def test_trials_leave_the_model_as_it_was() -> None:
    model = tiny_causal_model("gemma2").train()
    state = torch.random.get_rng_state()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    install(model, generates=True)
    assert model.training
    assert model.config.sliding_window != trial.TRIAL_WINDOW
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
