"""Tokenizes rows into prompt trees. Rows that are too long are dropped, cut or refused, and always counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from plaudit.batching.trees import PromptTree, Segment
from plaudit.config.schema import DataConfig
from plaudit.data.encoding import encode, encode_parts
from plaudit.data.indistinct import indistinct_responses, without_responses
from plaudit.data.rows import Row
from plaudit.data.templates import Renderer
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)

INDISTINCT = "responses dropped: others with the same tokens were judged differently"
INDISTINCT_ROWS = "rows dropped: responses judged differently have the same tokens"
UNWRITTEN = "rows dropped: the tokenizer drops all characters of the prompt or of a response"


@dataclass(frozen=True)
class TokenizedRow(Generic[R]):
    """A row and its tokens; ``prompt_text`` is the prompt as text, with its template but without special tokens."""

    row: R
    tree: PromptTree
    prompt_text: str


@dataclass(frozen=True)
class Tokenized(Generic[R]):
    """Rows in their original order, and how many were dropped or truncated because they were too long.

    ``counted``: what else was noticed while they were rendered and compared, and how often.
    """

    rows: list[TokenizedRow[R]]
    dropped: int = 0
    truncated: int = 0
    counted: Mapping[str, int] = field(default_factory=dict)

    @property
    def trees(self) -> list[PromptTree]:
        """Return the trees of the rows."""
        return [row.tree for row in self.rows]


def tokenize_rows(rows: Sequence[R], tokenizer: Any, config: DataConfig, context_length: int) -> Tokenized[R]:
    """Tokenize rows; prompt and the longest response together have at most ``context_length`` tokens.

    For prompts that will be answered, pass the context length minus the maximum length of the answer. Responses end
    as the chat template ends them, otherwise with the EOS token, unless they were truncated. Plain text becomes a
    response to the BOS token, or to its own first token without a BOS token. Responses that cannot be told apart and
    were judged differently are dropped, and rows of which the tokenizer drops a whole text. Raises PlauditError if the
    tokenizer has no EOS token, if no row is left, or, with ``overlong: error``, at the first row that is too long.
    """
    if tokenizer.eos_token_id is None:
        raise PlauditError("the tokenizer has no EOS token; set eos_token in the stage's model section")
    renderer = Renderer(tokenizer, config)
    with _refused_without_unknown_token():
        numbered = [*_text_rows(rows, renderer, tokenizer), *_prompted_rows(rows, renderer, tokenizer)]
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
    if everything and not kept:
        raise PlauditError(f"all {len(rows)} rows are too long; " + _overlong_message(everything[0], context_length))
    different = _without_indistinct(kept, renderer.counted)
    counted = {what: number for what, number in renderer.counted.items() if number}
    if rows and not different:
        reasons = "; ".join(f"{number} {what}" for what, number in counted.items())
        raise PlauditError(f"{rows[0].origin.source}: no row is left of {len(rows)}: {reasons}; check the data")
    return Tokenized(different, dropped, truncated, counted)


def _without_indistinct(rows: Sequence[TokenizedRow[R]], counted: Counter[str]) -> list[TokenizedRow[R]]:
    """Return the rows without responses that have the tokens of another one but a different rank or label."""
    different = []
    for row in rows:
        if left_out := indistinct_responses(row.row, row.tree):
            left = without_responses(row.row, row.tree, left_out)
            counted[INDISTINCT if left else INDISTINCT_ROWS] += len(left_out) if left else 1
            if left is None:
                continue
            row = TokenizedRow(cast(R, left[0]), left[1], row.prompt_text)
        different.append(row)
    return different


def with_loss_on_all(tree: PromptTree) -> PromptTree:
    """Move all prompt tokens except the first into the only response, so that they are learned as well.

    Tokens of the response that are not learned remain so.
    """
    if len(tree.responses) != 1:
        raise PlauditError("loss_on=all needs exactly one response per prompt; set loss_on=response")
    (response,), moved = tree.responses, tree.prompt[1:]
    learned = None if tree.learned is None else ((True,) * len(moved) + tree.learned[0],)
    return PromptTree(tree.prompt[:1], (moved + response,), learned)


@contextmanager
def _refused_without_unknown_token() -> Iterator[None]:
    """Raise PlauditError for text that is not in a vocabulary without an unknown token."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises no subclass
            raise
        raise PlauditError(
            f"the tokenizer cannot write a text of the data ({error}); choose a tokenizer with an unknown token, or "
            "one for this text"
        ) from error


# Text to tokens -------------------------------------------------------------------------------------------------------


def _text_rows(rows: Sequence[R], renderer: Renderer, tokenizer: Any) -> Iterator[tuple[int, TokenizedRow[R]]]:
    numbered = [(index, row) for index, row in enumerate(rows) if row.prompt is None]
    texts = [(renderer.text(row.responses[0]), False) for _, row in numbered]
    all_ids = encode(texts, renderer.special, tokenizer)
    for (index, row), ids in zip(numbered, all_ids, strict=True):
        if not ids:
            renderer.counted[UNWRITTEN] += 1
            continue
        if tokenizer.bos_token_id is not None and ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        tree = PromptTree(tuple(ids[:1]), ((*ids[1:], tokenizer.eos_token_id),))
        yield index, TokenizedRow(row, tree, "")


def _prompted_rows(rows: Sequence[R], renderer: Renderer, tokenizer: Any) -> Iterator[tuple[int, TokenizedRow[R]]]:
    numbered = [
        (index, row, rendered)
        for index, row in enumerate(rows)
        if row.prompt is not None
        for rendered in renderer.render(row)
    ]
    chat = [rendered.special_tokens for _, _, rendered in numbered]
    prompts = encode(
        [(rendered.prompt, own) for (_, _, rendered), own in zip(numbered, chat, strict=True)],
        renderer.special,
        tokenizer,
    )
    encoded = iter(encode_parts([rendered for _, _, rendered in numbered], prompts, renderer.special, tokenizer))
    eos = tokenizer.eos_token_id  # its look-up is slow
    for (index, row, rendered), prompt in zip(numbered, prompts, strict=True):
        responses, written = [], bool(prompt)
        for parts in rendered.responses:
            segments = [Segment(tuple(next(encoded)), part.learned) for part in parts]
            written = written and any(segment.tokens for segment in segments)
            if not (rendered.special_tokens and parts[-1].text.text.rstrip().endswith(renderer.ends)):
                segments[-1] = Segment((*segments[-1].tokens, eos))
            responses.append(segments)
        if not written:
            renderer.counted[UNWRITTEN] += 1
            continue
        text = rendered.prompt.text
        if rendered.special_tokens:
            text = tokenizer.decode(prompt, skip_special_tokens=True)
        yield index, TokenizedRow(row, _tree(tuple(prompt), responses), text)


def _tree(prompt: tuple[int, ...], responses: Sequence[Sequence[Segment]]) -> PromptTree:
    if any(len(segments) > 1 for segments in responses):
        return PromptTree.of_segments(prompt, responses)
    return PromptTree(prompt, tuple(segments[0].tokens for segments in responses))


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
