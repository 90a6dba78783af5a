"""Policies in Python: log-probabilities are those of transformers, and a text depends on its prompt and seed alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import plaudit
from plaudit.data.prompt_record import RECORD_FILE, read_record, remember
from plaudit.models.saving import save_model
from served_models import CPU, DIALOGUES, TEMPLATED, write_run

PROMPTS = ["w1 w2", "w3", "w4 good w5 w6", "bad w9"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(run: Path) -> plaudit.Policy:
    return plaudit.load_policy(plaudit.Run(run), device="cpu")


def texts(generations: list[list[plaudit.Generation]]) -> list[list[str]]:
    return [[generation.text for generation in own] for own in generations]


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.6}, {"top_k": 4}, {"top_p": 0.7, "temperature": 1.4}, {"temperature": 0}],
    ids=["plain", "temperature", "top_k", "top_p", "greedy"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities_equal_those_of_plain_transformers(
    run: Path, policy: plaudit.Policy, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(run / "sft/model", dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(run / "sft/model")
    for prompt, own in zip(PROMPTS, policy.generate(PROMPTS, n=3, max_new_tokens=12, **settings), strict=True):
        for generation in own:
            asked = tokenizer(f"w7 {prompt} w8")["input_ids"]
            with torch.no_grad():
                logits = plain(torch.tensor([[*asked, *generation.token_ids]])).logits[0, len(asked) - 1 : -1]
            expected = sampled_from(logits / (settings.get("temperature") or 1), settings)
            expected = expected.gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0]
            assert generation.logprobs.dtype == np.float32
            np.testing.assert_allclose(generation.logprobs, expected.numpy(), atol=2e-5)
            assert generation.ended == (generation.token_ids[-1] == tokenizer.eos_token_id)
            assert generation.text == str(generation)
            if settings.get("temperature") == 0:
                assert list(generation.token_ids) == logits.argmax(-1).tolist()


def sampled_from(logits: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """Return the log-probabilities of all tokens after top_k and top_p, computed from sorted probabilities."""
    probabilities = logits.softmax(-1)
    for row in probabilities:
        ordered, order = row.sort(descending=True)
        keep = settings.get("top_k") or len(row)
        if "top_p" in settings:
            keep = int((ordered.cumsum(0) < settings["top_p"]).sum()) + 1
        row[order[keep:]] = 0
    return (probabilities / probabilities.sum(-1, keepdim=True)).log()


def test_a_text_depends_on_its_prompt_and_the_seed_alone(policy: plaudit.Policy) -> None:
    together = texts(policy.generate(PROMPTS, n=3, max_new_tokens=8, seed=5))
    assert texts(policy.generate(PROMPTS, n=3, max_new_tokens=8, seed=5, batch_size=2)) == together
    assert texts(policy.generate(PROMPTS[::-1], n=3, max_new_tokens=8, seed=5)) == together[::-1]
    assert [texts(policy.generate([prompt], n=2, max_new_tokens=8, seed=5))[0] for prompt in PROMPTS] == [
        own[:2] for own in together
    ]
    assert texts(policy.generate(PROMPTS, n=3, max_new_tokens=8, seed=6)) != together


def test_more_texts_than_fit_the_memory_are_refused(policy: plaudit.Policy) -> None:
    with pytest.raises(plaudit.PlauditError, match=r"500,001 texts for each of 2 prompts: the limit is 1,000,000"):
        policy.generate(["a", "b"], n=500_001)


def test_every_text_has_its_own_random_numbers(policy: plaudit.Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    generate = policy._engine.generate

    def recorded(requests: Any, settings: Any) -> Any:
        seeds.extend(request.seed for request in requests)
        return generate(requests, settings)

    monkeypatch.setattr(policy._engine, "generate", recorded)
    policy.generate([*PROMPTS, "w1 w2"], n=3, max_new_tokens=1)
    assert len(set(seeds)) == len(seeds) == 15


def test_a_repeated_prompt_gets_its_own_texts(policy: plaudit.Policy) -> None:
    first, second = texts(policy.generate(["w1"] * 2, n=2, max_new_tokens=12))
    assert first != second
    assert first == texts(policy.generate(["w1"], n=2, max_new_tokens=12))[0]


def test_a_stop_string_ends_a_text(policy: plaudit.Policy) -> None:
    [[whole]] = policy.generate(["w1"], max_new_tokens=12, seed=3)
    word = whole.text.split()[4]
    [[cut]] = policy.generate(["w1"], max_new_tokens=12, seed=3, stop=word)
    assert cut.text == whole.text[: whole.text.index(word)]
    assert cut.ended
    assert len(cut.logprobs) == len(cut.token_ids) < len(whole.token_ids)


def test_the_settings_of_the_run_are_the_defaults(policy: plaudit.Policy) -> None:
    assert max(len(text.token_ids) for [text] in policy.generate(PROMPTS)) <= 6  # rl.generation.max_new_tokens
    assert "texts are plain prompts in 'w7 {prompt} w8'" in repr(policy)


def test_texts_are_turns_if_the_model_was_trained_on_dialogues(run: Path, tmp_path: Path) -> None:
    loaded = plaudit.load_policy(run, device="cpu")
    remember(loaded.tokenizer, DIALOGUES)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "model")
    policy = plaudit.load_policy(tmp_path / "model", device="cpu")
    [[from_text], [from_messages]] = policy.generate(["w1", [{"role": "user", "content": "w1"}]], max_new_tokens=4)
    assert from_text.sample.prompt_text == from_messages.sample.prompt_text == "\n\nHuman: w1\n\nAssistant:"
    plain = plaudit.load_policy(tmp_path / "model", device="cpu", plain=True)
    assert plain.generate(["w1"], max_new_tokens=4)[0][0].sample.prompt_text == "w1"


def test_a_pair_of_objects_generates_what_their_folder_does(run: Path, policy: plaudit.Policy) -> None:
    folder = run / "sft/model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = plaudit.load_policy((model, tokenizer))
    assert given.model is model
    expected = texts(policy.generate(PROMPTS, max_new_tokens=8))
    assert texts(given.generate(PROMPTS, max_new_tokens=8)) == expected
    with torch.no_grad():
        model.lm_head.weight[:] = 0
        model.lm_head.weight[5] = model.model.norm.weight
    assert texts(given.generate(PROMPTS, max_new_tokens=8)) != expected


def test_an_adapter_generates_as_peft_does(run: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(run / "sft/model")
    tokenizer = AutoTokenizer.from_pretrained(run / "sft/model")
    torch.manual_seed(0)
    settings = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, target_modules="all-linear")
    adapted = get_peft_model(base, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    asked = torch.tensor([tokenizer("w1 w2")["input_ids"]])
    expected = adapted.generate(input_ids=asked, do_sample=False, max_new_tokens=6)[0, 2:].tolist()
    for source in (tmp_path / "adapter", (adapted, tokenizer)):
        [[text]] = plaudit.load_policy(source, plain=True).generate(["w1 w2"], max_new_tokens=6, temperature=0)
        assert list(text.token_ids) == expected


def test_a_saved_policy_is_the_same(policy: plaudit.Policy, tmp_path: Path) -> None:
    folder = policy.save(tmp_path / "new" / "saved")
    assert folder == tmp_path / "new" / "saved"
    assert read_record(str(folder)) == TEMPLATED
    assert (folder / RECORD_FILE).is_file()
    assert [entry.name for entry in folder.parent.iterdir()] == ["saved"]
    again = plaudit.load_policy(folder, device="cpu")
    assert texts(again.generate(PROMPTS, max_new_tokens=8)) == texts(policy.generate(PROMPTS, max_new_tokens=8))
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(weights[name], tensor.to(CPU)) for name, tensor in policy.model.state_dict().items())
    with pytest.raises(plaudit.PlauditError, match=r"saved: there is something here already; name a new folder$"):
        policy.save(folder)


@pytest.mark.parametrize(
    "prompts, settings, message",
    [
        ("w1", {}, r"^prompts: expected a list .*, not 'w1'$"),
        ([1], {}, r"^prompts line 1: .*; give a text, or messages"),
        (["w1", []], {}, r"^prompts line 2: "),
        (["w1"], {"n": 0}, r"^n: 0 texts per prompt"),
        (["w1"], {"temperature": -1}, r"^temperature: "),
        (["w1"], {"temperature": "hot"}, r"^temperature: "),
        (["w1", "w2 " * 60], {"max_new_tokens": 8}, r"^prompts line 2: a prompt of 62 tokens and 8 new ones exceed"),
    ],
)
def test_bad_calls_are_refused_in_one_line(
    policy: plaudit.Policy, prompts: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(plaudit.PlauditError, match=message) as error:
        policy.generate(prompts, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, options, message",
    [
        (3, {}, r"^a policy of type int: expected a folder"),
        (("model", "tokenizer"), {}, r"^a pair must be a model and a tokenizer"),
        ("nothing-like-this", {}, r"^nothing-like-this: no such run or folder"),
        ("run", {"dtyp": "float32"}, r"^load_policy: dtyp: unknown; did you mean dtype\?$"),
        ("run", {"device": "moon"}, r"^device moon is not available here"),
        ("reward", {}, r"model: this is a reward model or classifier, which writes no text"),
    ],
)
def test_what_is_not_a_policy_is_refused(run: Path, source: Any, options: dict[str, Any], message: str) -> None:
    named = {"run": run, "reward": run / "reward/model"}
    with pytest.raises(plaudit.PlauditError, match=message):
        plaudit.load_policy(named.get(source, source) if isinstance(source, str) else source, **options)
