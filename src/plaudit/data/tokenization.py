"""Tokenises rows into prompt trees. Rows that are too long are dropped, cut or refused, and always counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.rows import ResponseRow, Row
from plaudit.data.templates import RenderedPrompt, render_prompt
from plaudit.errors import PlauditError

Ids = list[int]

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class TokenizedRow(Generic[R]):
    """A row and its tokens; ``prompt_text`` is the prompt as text, with its template but without special tokens."""

    row: R
    tree: PromptTree
    prompt_text: str


@dataclass(frozen=True)
class Tokenized(Generic[R]):
    """Rows in their original order, and how many were dropped or truncated because they were too long."""

    rows: list[TokenizedRow[R]]
    dropped: int = 0
    truncated: int = 0

    @property
    def trees(self) -> list[PromptTree]:
        """Return the trees of the rows."""
        return [row.tree for row in self.rows]


def tokenize_rows(rows: Sequence[R], tokenizer: Any, config: DataConfig, context_length: int) -> Tokenized[R]:
    """Tokenise rows; prompt and the longest response together have at most ``context_length`` tokens.

    For prompts that will be answered, pass the context length minus the maximum length of the answer. Responses end
    with the EOS token unless they were truncated. Plain text becomes a response to the BOS token, or to its own first
    token without a BOS token. Raises PlauditError if the tokenizer has no EOS token, if every row is too long, or, with
    ``overlong: error``, at the first row that is too long.
    """
    if tokenizer.eos_token_id is None:
        raise PlauditError("the tokenizer has no EOS token; set one with model.eos_token")
    numbered = [*_text_rows(rows, tokenizer), *_prompted_rows(rows, tokenizer, config)]
    everything = [row for _, row in sorted(numbered, key=lambda pair: pair[0])]
    kept: list[TokenizedRow[R]] = []
    dropped = truncated = 0
    for row in everything:
        if _is_overlong(row.tree, config, context_length):
            if config.overlong == "error":
                raise PlauditError(_overlong_message(row, context_length))
            if config.overlong == "drop":
                dropped += 1
                continue
            row = _truncated(row, tokenizer, config, context_length)
            truncated += 1
        kept.append(row)
    if rows and not kept:
        raise PlauditError(f"all {len(rows)} rows are too long; " + _overlong_message(everything[0], context_length))
    return Tokenized(kept, dropped, truncated)


def with_loss_on_all(tree: PromptTree) -> PromptTree:
    """Move all prompt tokens except the first into the only response, so that they are learned as well.

    Tokens of the response that are not learned remain so.
    """
    if len(tree.responses) != 1:
        raise PlauditError("loss_on=all needs exactly one response per prompt; set loss_on=response")
    (response,), moved = tree.responses, tree.prompt[1:]
    learned = None if tree.learned is None else ((True,) * len(moved) + tree.learned[0],)
    return PromptTree(tree.prompt[:1], (moved + response,), learned)


# Text to tokens -------------------------------------------------------------------------------------------------------


def _text_rows(rows: Sequence[R], tokenizer: Any) -> Iterator[tuple[int, TokenizedRow[R]]]:
    numbered = [(index, row) for index, row in enumerate(rows) if row.prompt is None]
    all_ids = _encode([row.responses[0] for _, row in numbered], tokenizer, special_tokens=True)
    for (index, row), ids in zip(numbered, all_ids, strict=True):
        if tokenizer.bos_token_id is not None and ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        tree = PromptTree(tuple(ids[:1]), ((*ids[1:], tokenizer.eos_token_id),))
        yield index, TokenizedRow(row, tree, "")


def _prompted_rows(rows: Sequence[R], tokenizer: Any, config: DataConfig) -> Iterator[tuple[int, TokenizedRow[R]]]:
    numbered = [(index, row, row.prompt) for index, row in enumerate(rows) if row.prompt is not None]
    _refuse_calls(rows)
    rendered = [render_prompt(prompt, tokenizer, config, row.origin) for _, row, prompt in numbered]
    prompts = _encode_prompts(rendered, tokenizer)
    pairs = [
        (which, rendered[which].separator + response)
        for which, (_, row, _) in enumerate(numbered)
        for response in row.responses
    ]
    encoded = iter(_encode_responses(pairs, rendered, prompts, tokenizer))
    for which, (index, row, _) in enumerate(numbered):
        responses = tuple((*next(encoded), tokenizer.eos_token_id) for _ in row.responses)
        text = rendered[which].text
        if rendered[which].special_tokens:
            text = tokenizer.decode(prompts[which], skip_special_tokens=True)
        yield index, TokenizedRow(row, PromptTree(tuple(prompts[which]), responses), text)


def _refuse_calls(rows: Sequence[Row]) -> None:
    """Raise PlauditError for a response that calls functions: its text alone is not what a chat template writes."""
    for row in rows:
        if isinstance(row, ResponseRow) and row.final is not None:
            raise PlauditError(
                f"{row.origin.source} line {row.origin.line}: the response calls functions, which cannot be learned "
                "yet; give that turn weight 0, or remove the row"
            )


def _encode_prompts(rendered: Sequence[RenderedPrompt], tokenizer: Any) -> list[Ids]:
    plain = iter(_encode([p.text for p in rendered if not p.special_tokens], tokenizer, special_tokens=True))
    chat = iter(_encode([p.text for p in rendered if p.special_tokens], tokenizer, special_tokens=False))
    return [next(chat) if prompt.special_tokens else next(plain) for prompt in rendered]


def _encode_responses(
    pairs: Sequence[tuple[int, str]], rendered: Sequence[RenderedPrompt], prompts: Sequence[Ids], tokenizer: Any
) -> list[Ids]:
    """Tokenise (number of the prompt, response text) so that the response continues its prompt.

    Prompt and response are tokenised together and split after the prompt's tokens. If a token spans the boundary, the
    response is tokenised after a line break instead, because some tokenizers add a space at the start of a text.
    """
    texts = [(rendered[which].text + response, rendered[which].special_tokens) for which, response in pairs]
    joint = _encode_prompts([RenderedPrompt(text, special, "") for text, special in texts], tokenizer)
    continued = [
        ids[len(prompts[which]) :] if ids[: len(prompts[which])] == prompts[which] else None
        for ids, (which, _) in zip(joint, pairs, strict=True)
    ]
    spanning = [response for ids, (_, response) in zip(continued, pairs, strict=True) if ids is None]
    alone = iter(_encode_after_line_break(spanning, tokenizer))
    return [next(alone) if ids is None else ids for ids in continued]


def _encode_after_line_break(texts: Sequence[str], tokenizer: Any) -> list[Ids]:
    (line_break,) = _encode(["\n"], tokenizer, special_tokens=False)
    after = _encode(["\n" + text for text in texts], tokenizer, special_tokens=False)
    alone = _encode(texts, tokenizer, special_tokens=False)
    length = len(line_break)
    return [
        ids[length:] if ids[:length] == line_break else fallback for ids, fallback in zip(after, alone, strict=True)
    ]


def _encode(texts: Sequence[str], tokenizer: Any, special_tokens: bool) -> list[Ids]:
    """Tokenise texts in one batch, without the EOS token that some tokenizers add at the end."""
    if not texts:
        return []
    # verbose=False: tokenizers may warn about texts beyond the model's length, but the caller applies the limits.
    all_ids = tokenizer(list(texts), add_special_tokens=special_tokens, verbose=False)["input_ids"]
    ends = 1 if special_tokens and _adds_eos(tokenizer) else 0
    return [list(ids[: len(ids) - ends]) for ids in all_ids]


def _adds_eos(tokenizer: Any) -> bool:
    with_special: Ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    without: Ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(with_special[-1] == tokenizer.eos_token_id) and with_special[-len(without) :] != without


# Length ---------------------------------------------------------------------------------------------------------------


def _is_overlong(tree: PromptTree, config: DataConfig, context_length: int) -> bool:
    prompt, longest = len(tree.prompt), max(map(len, tree.responses), default=0)
    return (
        prompt + longest > context_length
        or prompt > (config.max_prompt_tokens or context_length)
        or longest > (config.max_response_tokens or context_length)
    )


def _truncated(row: TokenizedRow[R], tokenizer: Any, config: DataConfig, context_length: int) -> TokenizedRow[R]:
    """Cut prompts from the left (a leading BOS token stays) and responses from the right.

    The prompt is limited to ``max_prompt_tokens`` and to the part of the context that the longest response leaves, but
    to no less than half of the context.
    """
    tree = row.tree
    longest = min(max(map(len, tree.responses), default=0), config.max_response_tokens or context_length)
    left = max(context_length - longest, (context_length + 1) // 2)
    limit = min(config.max_prompt_tokens or context_length, left)
    prompt = tree.prompt
    if len(prompt) > limit:
        bos = prompt[:1] if prompt[0] == tokenizer.bos_token_id and limit > 1 else ()
        prompt = bos + prompt[len(prompt) - limit + len(bos) :]
    limit = min(config.max_response_tokens or context_length, context_length - len(prompt))
    responses = tuple(response[:limit] for response in tree.responses)
    learned = None if tree.learned is None else tuple(flags[:limit] for flags in tree.learned)
    text = row.prompt_text if prompt == tree.prompt else tokenizer.decode(prompt, skip_special_tokens=True)
    return TokenizedRow(row.row, PromptTree(prompt, responses, learned=learned), text)


def _overlong_message(row: TokenizedRow[Any], context_length: int) -> str:
    origin, longest = row.row.origin, max(map(len, row.tree.responses), default=0)
    return (
        f"{origin.source} line {origin.line}: prompt of {len(row.tree.prompt)} tokens with response of {longest} "
        f"exceeds max_prompt_tokens, max_response_tokens or the context's {context_length}; raise them, or set "
        "overlong to drop or truncate"
    )
