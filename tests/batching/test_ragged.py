"""Flat response tokens and their rows."""

import torch

from plaudit.batching.ragged import response_mask, rows_from, to_rows


def test_masks_by_hand() -> None:
    lengths = torch.tensor([2, 0, 3])
    assert response_mask(lengths).int().tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert response_mask(lengths, 4).int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert response_mask(lengths, 1).int().tolist() == [[1], [0], [1]]


def test_rows_keep_every_token_in_its_place() -> None:
    flat, lengths = torch.arange(1.0, 7.0), torch.tensor([2, 1, 3])
    assert to_rows(flat, lengths).tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert to_rows(flat.long(), lengths).dtype == torch.long


def test_rows_of_parts() -> None:
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0]), torch.tensor([4.0, 5.0, 6.0])]
    assert rows_from(parts).tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
