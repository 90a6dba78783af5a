"""A saved reward model gives the same scores in transformers, by its README.md and in Plaudit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from model_folders import read_weights, saved, write_weights
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import LoraConfig, ModelConfig, ModelReward
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_scorer
from plaudit.models.reward_model import RewardModel, ScoreScale, load_reward_model, save_reward_model
from plaudit.rewards.sources import build_reward
from plaudit.rollouts.samples import Sample
from tiny_models import tiny_classifier

CPU = torch.device("cpu")
PROMPT, RESPONSES = (5, 6, 7), ((8, 9, 1), (4, 1), (33, 34, 35, 33, 1))
TREE = PromptTree(PROMPT, RESPONSES)
SCALE = ScoreScale(2.5, -0.75)


def words(tokens: tuple[int, ...]) -> str:
    return " ".join(f"w{token}" for token in tokens)


ARCHITECTURES = ["llama", "gpt2", "gpt_neox", "opt", "qwen2", "bloom", "mistral", "gemma2"]
"""Those of the tiny models for which transformers has a sequence classifier."""


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
@pytest.mark.parametrize("pad", ["w1", "w2"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_and_plaudit_agree(architecture: str, pad: str, lora: LoraConfig | None, tmp_path: Path) -> None:
    start = saved(tiny_classifier(architecture), tmp_path / "start", pad_token=pad)
    loaded, _ = load_scorer(ModelConfig(path=str(start), lora=lora), CPU)
    expected = RewardModel(loaded, SCALE).scores([TREE], 64)
    folder = tmp_path / "saved"
    save_reward_model(loaded.model, loaded.tokenizer, SCALE, folder)

    found = load_reward_model(ModelConfig(path=str(folder)), CPU).scores([TREE], 64)
    if lora is None:
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    samples = [Sample(PROMPT, response, "", "", ended=True) for response in RESPONSES]
    reward = build_reward([ModelReward(name="judge", path=str(folder))], CPU)
    torch.testing.assert_close(reward.score(samples).total, expected, rtol=1e-5, atol=1e-5)
    reward.check_tokenizer(loaded.tokenizer)

    rest = json.loads((folder / "score_scale.json").read_text())["remaining_bias"]
    assert rest == (0.0 if architecture in ("gpt2", "gpt_neox", "opt", "bloom") else SCALE.bias)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    batch = tokenizer.pad({"input_ids": [[*PROMPT, *response] for response in RESPONSES]}, return_tensors="pt")
    with torch.no_grad():
        in_transformers = model(**batch).logits[:, 0] + rest
    torch.testing.assert_close(in_transformers, expected, rtol=1e-4, atol=1e-4)

    if architecture == "qwen2":
        return  # the class of its tokenizer splits text in another way than these words
    example = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[0]
    space: dict[str, Any] = {}
    exec(example.replace('folder = "."', f"folder = {str(folder)!r}"), space)
    by_readme = [space["score"](words(PROMPT), words(response[:-1])) for response in RESPONSES]
    assert by_readme == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_heads_of_transformers_have_no_bias(architecture: str, tmp_path: Path) -> None:
    """So a bias can only be in the last normalization; if this fails, write it into the head instead."""
    folder = saved(tiny_classifier(architecture), tmp_path)
    scores = []
    for bias in ({}, {"score.bias": torch.tensor([100.0])}):
        write_weights(folder, read_weights(folder) | bias)
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert report["unexpected_keys"] == bias.keys()
        with torch.no_grad():
            scores.append(model(input_ids=torch.tensor([[*PROMPT, *RESPONSES[0]]])).logits)
    torch.testing.assert_close(*scores)  # bits depend on where the file is in memory


def test_older_folders_and_changed_weights(tmp_path: Path) -> None:
    """Older folders hold the scale in a file only; weights that someone changed are used as they are."""
    start = saved(tiny_classifier("gpt2"), tmp_path / "start")
    (start / "score_scale.json").write_text(json.dumps(vars(SCALE)))
    loaded, _ = load_scorer(ModelConfig(path=str(start)), CPU)
    expected = RewardModel(loaded, SCALE).scores([TREE], 64)
    assert torch.equal(load_reward_model(ModelConfig(path=str(start)), CPU).scores([TREE], 64), expected)
    save_reward_model(loaded.model, loaded.tokenizer, SCALE, tmp_path / "saved")
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        model.score.weight.mul_(2)
    model.save_pretrained(tmp_path / "saved")
    found = load_reward_model(ModelConfig(path=str(tmp_path / "saved")), CPU).scores([TREE], 64)
    torch.testing.assert_close(found, 2 * expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("content", [None, "[]", '{"gain": null, "bias": 0}', '{"gain": NaN, "bias": 0}'])
def test_a_lost_or_damaged_scale_is_refused(content: str | None, tmp_path: Path) -> None:
    start = saved(tiny_classifier("llama"), tmp_path / "start")
    loaded, _ = load_scorer(ModelConfig(path=str(start)), CPU)
    save_reward_model(loaded.model, loaded.tokenizer, SCALE, tmp_path / "saved")
    file = tmp_path / "saved/score_scale.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(PlauditError, match=rf"^{file}: "):
        load_reward_model(ModelConfig(path=str(tmp_path / "saved")), CPU)
