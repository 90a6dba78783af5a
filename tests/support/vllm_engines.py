"""Engines on fake vLLM servers, with the model of this process."""

from pathlib import Path
from typing import Any

import torch

from plaudit.config.schema import GenerationConfig, ModelConfig
from plaudit.config.schema.engines import TransformersEngineConfig, VllmEngineConfig
from plaudit.models.loading.models import LoadedModel, load_policy
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.model_engine import ModelEngine, configured_engine
from plaudit.rollouts.samples import Request
from tiny_runs import FRESH, write_tokenizer

CPU = torch.device("cpu")
GENERATE = "/inference/v1/generate"


def fresh_policy(folder: Path, **options: Any) -> LoadedModel:
    """Return a random model; a fake server finds its configuration in ``folder``."""
    write_tokenizer(folder)
    fresh = FRESH | {"options": {**FRESH["options"], **options}}  # type: ignore[dict-item]
    loaded = load_policy(ModelConfig.model_validate({"fresh": fresh, "tokenizer": str(folder)}), CPU)
    loaded.model.config.save_pretrained(folder)
    return loaded


def engine_at(url: str | list[str], loaded: LoadedModel, **changes: Any) -> ModelEngine:
    """Return the engine that generates with running servers."""
    return configured_engine(VllmEngineConfig.model_validate({"url": url, **changes}), loaded, OneProcess(CPU))


def requests() -> list[Request]:
    """Return four requests, two of them with the same prompt."""
    prompts = [(5, 6, 7), (5, 6, 7), (9,), (4, 8, 12, 16)]
    return [Request(prompt, f"prompt {number}", 70 + number, {"row": number}) for number, prompt in enumerate(prompts)]


def differences(url: str | list[str], loaded: LoadedModel, settings: GenerationConfig, **changes: Any) -> list[int]:
    """Return the indices of the samples in which the servers differ from the engine in this process."""
    here = configured_engine(TransformersEngineConfig(), loaded, OneProcess(CPU))
    there = engine_at(url, loaded, **changes)
    here.update(0)
    there.update(0)
    wanted, found = here.generate(requests(), settings), there.generate(requests(), settings)
    there.close()
    assert len(found) == len(wanted)
    return [
        index
        for index, (its, own) in enumerate(zip(found, wanted, strict=True))
        if vars(its) | {"log_probabilities": ()} != vars(own) | {"log_probabilities": ()}
        or not torch.allclose(torch.tensor(its.log_probabilities), torch.tensor(own.log_probabilities), atol=1e-5)
    ]
