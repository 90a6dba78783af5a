"""The state of one batch during generation: cache, mask, positions, and the tokens chosen so far."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from plaudit.config.schema import GenerationConfig
from plaudit.models.acceleration.tree_attention import TreeLayout, layout_of_prompts
from plaudit.rollouts.samples import Request
from plaudit.rollouts.sampling import Choice, draw_limits, draw_uniforms

PREFILL_POSITIONS = 2048  # prompt tokens per forward pass on a CPU; with more, activations do not fit into its caches


class RunningBatch:
    """Requests that are generated together.

    Rows are the requests that have not been dropped; ``_request_of_row`` [rows] is the request of each row. Chosen
    tokens are written to tensors [requests, tokens], so that dropping rows does not move results.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        settings: GenerationConfig,
        device: torch.device,
        takes_dense_masks: bool,
        compiled_decoding: bool,
    ) -> None:
        self._takes_dense_masks, self._compiled_decoding = takes_dense_masks, compiled_decoding
        limits = draw_limits(requests, settings)
        self.longest = max(limits)
        self.uniforms = draw_uniforms(requests, self.longest).to(device)
        self.finished = torch.zeros(len(requests), dtype=torch.bool, device=device)
        self._requests = requests
        self._step = 0
        self._limits = torch.tensor(limits, device=device)
        self._request_of_row = torch.arange(len(requests), device=device)
        self._tokens = torch.zeros(len(requests), self.longest, dtype=torch.long, device=device)
        self._log_probabilities = torch.zeros(len(requests), self.longest, device=device)
        self._lengths = torch.zeros(len(requests), dtype=torch.long, device=device)
        self._pad_prompts(device)

    def _pad_prompts(self, device: torch.device) -> None:
        prompts = list(dict.fromkeys(request.prompt_ids for request in self._requests))
        numbers = {prompt: number for number, prompt in enumerate(prompts)}
        self._prompt_of_row = torch.tensor([numbers[request.prompt_ids] for request in self._requests], device=device)
        self._prompt_length = max(map(len, prompts))
        self._padding = padding = [self._prompt_length - len(prompt) for prompt in prompts]
        self._prompts = torch.tensor(
            [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)], device=device
        )
        columns = torch.arange(self._prompt_length + self.longest, device=device)
        self._mask = (columns >= torch.tensor(padding, device=device)[:, None]).long()

    def prefill_inputs(self) -> Iterator[dict[str, Any]]:
        """Yield the model's inputs [prompts, length] for all distinct prompts, some at a time.

        If the model accepts dense masks, ``attention_mask`` is a ``TreeLayout`` with one tree per prompt.
        """
        from transformers.cache_utils import Cache

        from plaudit.models.acceleration.prefill import PrefillLayer

        for first, last in self._pieces():
            start = min(self._padding[first:last])
            mask = self._mask[first:last, start : self._prompt_length]
            yield {
                "input_ids": self._prompts[first:last, start:],
                "attention_mask": self._prefill_mask(mask, [end - start for end in self._padding[first:last]]),
                "position_ids": (mask.cumsum(-1) - 1).clamp_(min=0),
                "past_key_values": Cache(layer_class_to_replicate=PrefillLayer),
            }

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of prompts that are computed together; prompts are sorted by length, longest first."""
        first, count = 0, len(self._padding)
        while first < count:
            fitting = PREFILL_POSITIONS // (self._prompt_length - self._padding[first])
            last = min(first + max(fitting, 1), count) if self._prompts.device.type == "cpu" else count
            yield first, last
            first = last

    def _prefill_mask(self, mask: Tensor, starts: Sequence[int]) -> Tensor | TreeLayout:
        trees = self._takes_dense_masks and mask.device.type == "cpu"
        layout = layout_of_prompts(starts, mask.shape[1]) if trees else None
        return mask if layout is None else layout

    def adopt(self, prefilled: Sequence[Any]) -> Tensor:
        """Give every request its prompt's cache and return its first logits [requests, vocabulary]."""
        from plaudit.rollouts.engines.cache import GenerationCache

        rows = self._prompt_of_row
        caches = [piece.past_key_values for piece in prefilled]
        self._cache = GenerationCache(caches, rows, self.longest, self._compiled_decoding)
        self._mask = self._mask[rows]
        self._positions = self._mask[:, : self._prompt_length].sum(-1, keepdim=True)
        return torch.cat([piece.logits[:, -1] for piece in prefilled])[rows]

    def append(self, choice: Choice, is_end: Tensor) -> None:
        """Write the chosen tokens [rows]; those of finished rows are written but do not count."""
        self._tokens[self._request_of_row, self._step] = choice.tokens
        self._log_probabilities[self._request_of_row, self._step] = choice.log_probabilities - choice.log_kept_mass
        self._lengths.index_add_(0, self._request_of_row, (~self.finished).long())
        self._newest = choice.tokens
        self._step += 1
        self.finished = self.finished | is_end | (self._step >= self._limits)

    def step_inputs(self) -> dict[str, Any]:
        """Return the model's inputs for the newest token of every row."""
        mask = self._mask[:, : self._prompt_length + self._step]
        return {
            "input_ids": self._newest[:, None],
            # From a two-dimensional mask transformers builds a new one at every token, which waits for the device.
            "attention_mask": mask[:, None, None].bool() if self._takes_dense_masks else mask,
            "position_ids": self._positions + (self._step - 1),
            "past_key_values": self._cache,
        }

    def unfinished(self) -> Iterator[tuple[int, Request, list[int]]]:
        """Yield row, request and response so far of every row that has not ended."""
        responses = self._tokens[self._request_of_row, : self._step].tolist()
        requests = self._request_of_row.tolist()
        for row, finished in enumerate(self.finished.tolist()):
            if not finished:
                yield row, self._requests[requests[row]], responses[row]

    def drop_finished(self, least_fraction: float) -> int:
        """Drop finished rows if they are at least this fraction of all rows; return the number of running rows."""
        running = int((~self.finished).sum())
        rows = len(self.finished)
        if 0 < running <= rows * (1 - least_fraction):
            self._keep((~self.finished).nonzero()[:, 0])
        return running

    def _keep(self, rows: Tensor) -> None:
        self._cache.keep_rows(rows)
        for name in ("uniforms", "finished", "_limits", "_request_of_row", "_mask", "_positions", "_newest"):
            setattr(self, name, getattr(self, name)[rows])

    def ended(self) -> list[bool]:
        """Return for every request whether its response has ended."""
        ended = torch.ones(len(self._requests), dtype=torch.bool, device=self.finished.device)
        ended[self._request_of_row] = self.finished
        return ended.tolist()

    def results(self) -> list[tuple[list[int], list[float]]]:
        """Return every request's response so far, and its log-probabilities."""
        rows = zip(self._tokens.tolist(), self._log_probabilities.tolist(), strict=True)
        lengths = self._lengths.tolist()
        return [
            (tokens[:length], log_probabilities[:length])
            for length, (tokens, log_probabilities) in zip(lengths, rows, strict=True)
        ]
