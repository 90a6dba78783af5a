"""Folders with a tiny random policy, reward model and run, for tests of what uses trained models."""

from pathlib import Path

import torch

from plaudit.config.load import dump, load_recipe
from plaudit.config.schema import FreshModel, ModelConfig
from plaudit.data.prompt_record import PromptRecord, remember
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.models.reward_model import ScoreScale, save_reward_model
from plaudit.models.saving import save_model
from tiny_runs import FRESH, tiny_recipe

CPU = torch.device("cpu")
TEMPLATED = PromptRecord("plain", "w7 {prompt} w8", "human_assistant", False)
DIALOGUES = PromptRecord("dialogue", "{prompt}", "human_assistant", False)


def write_run(folder: Path) -> Path:
    """Write runs/tiny with an SFT model, a reward model and, in ``other``, another one; prompts were in a template."""
    recipe = tiny_recipe(folder)
    run = folder / "runs" / "tiny"
    fresh = ModelConfig(fresh=FreshModel.model_validate(FRESH), tokenizer=str(folder / "tokenizer"))
    policy = load_policy(fresh, CPU)
    spread(policy.model)
    remember(policy.tokenizer, TEMPLATED)
    save_model(policy.model, policy.tokenizer, run / "sft" / "model")
    for seed, name in enumerate(("reward", "other")):
        scorer, _ = load_scorer(fresh, CPU, seed=seed)
        spread(scorer.model, seed)
        remember(scorer.tokenizer, TEMPLATED)
        save_reward_model(scorer.model, scorer.tokenizer, ScoreScale(2.0, 0.5), run / name / "model")
    (run / "config.yaml").write_text(dump(load_recipe(str(recipe))))
    return run


def spread(model: torch.nn.Module, seed: int = 0) -> None:
    """Widen random weights, so that distributions are far from uniform and scores differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator) * 0.3)
