"""What engines share: checks of requests, end tokens, and samples from generated tokens."""

from collections.abc import Collection, Sequence
from math import isfinite
from typing import Any

from plaudit.config.schema import GenerationConfig
from plaudit.data.chat_templates import end_of_turn_ids
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Request, Sample
from plaudit.rollouts.texts import cut_at_stop, response_text


def check_requests(requests: Sequence[Request], settings: GenerationConfig, context_length: int) -> None:
    """Raise PlauditError if a prompt is empty or leaves no room for the response, or a stop string is empty."""
    if "" in settings.stop:
        raise PlauditError("generation: stop contains an empty string; remove it")
    lengths = [len(request.prompt_ids) for request in requests]
    if 0 in lengths:
        raise PlauditError(
            f"prompt {lengths.index(0)} has no tokens; give it text, or use a tokenizer with a BOS token"
        )
    if lengths and max(lengths) + settings.max_new_tokens > context_length:
        raise PlauditError(
            f"a prompt of {max(lengths)} tokens and max_new_tokens={settings.max_new_tokens} together exceed "
            f"the model's context of {context_length} tokens; lower max_new_tokens or max_prompt_tokens"
        )


def end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every token that ends a response: those of the generation settings, model, tokenizer and chat template."""
    named = [
        getattr(model.generation_config, "eos_token_id", None),
        model.config.eos_token_id,
        tokenizer.eos_token_id,
        sorted(end_of_turn_ids(tokenizer)),
    ]
    lists = [ids if isinstance(ids, list | tuple) else [ids] for ids in named]
    return frozenset(int(token) for ids in lists for token in ids if token is not None)


def finished_sample(
    request: Request,
    response: Sequence[int],
    log_probabilities: Sequence[float],
    *,
    stops: Sequence[str],
    end_ids: Collection[int],
    tokenizer: Any,
) -> Sample:
    """Return the sample of a finished response, cut at the first stop string.

    Raises PlauditError if a log-probability is not finite.
    """
    if not all(map(isfinite, log_probabilities)):
        raise PlauditError(
            f"the model's output is not finite{_at(request)}; check its weights, or return to an earlier checkpoint "
            "and lower the learning rate"
        )
    cut = cut_at_stop(tokenizer, request.prompt_ids, response, stops) if stops else None
    length, text = cut or (len(response), response_text(tokenizer, request.prompt_ids, response))
    return Sample(
        prompt_ids=tuple(request.prompt_ids),
        response_ids=tuple(response[:length]),
        prompt_text=request.prompt_text,
        response_text=text,
        ended=cut is not None or response[-1] in end_ids,
        log_probabilities=tuple(log_probabilities[:length]),
        fields=request.fields,
        origin=request.origin,
    )


def _at(request: Request) -> str:
    return f" at the prompt of {request.origin.source} line {request.origin.line}" if request.origin else ""
