"""Attention of one token to a cache whose prompts are stored once, against softmax attention in float64."""

import pytest
import torch

from plaudit.models.decoding import PromptGroups, SharedPrompt, decode


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention in float64 with keys repeated for every head: [rows, 1, heads, head size]."""
    groups = query.shape[1] // key.shape[1]
    key, value = (states.double().repeat_interleave(groups, dim=1) for states in (key, value))
    scores = query.double() @ key.transpose(2, 3) * 0.3
    return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("prompt_of_row", [[0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5], [1, 0, 2, 1, 1, 0]])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_shared_prompts_change_nothing(prompt_of_row: list[int], key_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor(prompt_of_row)
    prompts, before, own, size = int(rows.max()) + 1, 5, 3, 8
    query = torch.randn(6, 4, 1, size, generator=generator)
    prompt_keys, prompt_values = torch.randn(2, prompts, key_heads, before, size, generator=generator)
    keys, values = torch.randn(2, 6, key_heads, own, size, generator=generator)
    mask = torch.ones(6, 1, 1, before + own, dtype=torch.bool)
    mask[:, :, :, :2] = (rows % 2 == 0)[:, None, None, None]
    all_keys = torch.cat([prompt_keys[rows], keys], dim=2)
    all_values = torch.cat([prompt_values[rows], values], dim=2)
    wanted = plain(query, all_keys, all_values, mask).float()
    shared = SharedPrompt(prompt_keys, prompt_values, PromptGroups.of(rows))
    torch.testing.assert_close(decode(query, keys, values, mask, 0.3, shared), wanted, atol=1e-5, rtol=1e-5)


def test_places_by_hand() -> None:
    groups = PromptGroups.of(torch.tensor([1, 0, 1, 1]))
    assert (groups.prompts, groups.size) == (2, 3)
    assert groups.places is not None
    assert groups.places.tolist() == [3, 0, 4, 5]
    rows = torch.arange(1.0, 9.0).view(4, 1, 2, 1)
    gathered = groups.gather(rows)
    assert gathered.flatten(1).tolist() == [[3, 4, 0, 0, 0, 0], [1, 2, 5, 6, 7, 8]]
    assert torch.equal(groups.scatter(gathered), rows)
    assert PromptGroups.of(torch.tensor([0, 0, 1, 1])).places is None
    assert PromptGroups.of(torch.tensor([0, 1, 0, 1])).places is not None
