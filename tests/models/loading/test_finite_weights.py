"""A model with a weight that is NaN or infinite is refused when it is loaded."""

from pathlib import Path

import pytest
import torch

from model_folders import index_tokenizer
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy
from tiny_models import tiny_causal_model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    model = tiny_causal_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[1, 2] = value
    model.save_pretrained(tmp_path)
    index_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PlauditError, match=r"layers\.0\.mlp\.up_proj\.weight holds NaN or infinite values"):
        load_policy(ModelConfig(path=str(tmp_path)), torch.device("cpu"))
