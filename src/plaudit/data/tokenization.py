"""Tokenizes rows into prompt trees. Rows that are too long are dropped, cut or refused, and always counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np

from plaudit.batching.trees import PromptTree, Segment
from plaudit.config.schema import DataConfig
from plaudit.data.encoding import Encoder
from plaudit.data.limits import LimitedRows, Limits, Trees, TreesInMemory
from plaudit.data.rows import ResponseRow, Row
from plaudit.data.selection import Indices
from plaudit.data.template_checks import unfaithful_refusal
from plaudit.data.templates import Renderer
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)

INDISTINCT = "rows without some responses: others with the same tokens were judged differently"
INDISTINCT_ROWS = "rows dropped: responses have the same tokens, so there is nothing to compare"
UNWRITTEN = "rows dropped: the tokenizer drops all characters of the prompt or of a response"


@dataclass(frozen=True)
class Tokenized(Generic[R]):
    """Rows in their original order, and how many were dropped or truncated because they were too long.

    ``left_out``: which fraction of the tokens of all prompts and longest responses these rows lost. ``counted``: what
    else was noticed while rows were rendered and compared, and how often.
    """

    rows: Sequence[TokenizedRow[R]]
    dropped: int = 0
    truncated: int = 0
    counted: Mapping[str, int] = field(default_factory=dict)
    left_out: float = 0.0

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
    tokenizer has no EOS token, if no row is left, if the chat template leaves out or changes too many, or, with
    ``overlong: error``, at the first row that is too long.
    """
    check_eos_token(tokenizer)
    renderer = Renderer(tokenizer, config)
    trees = TreesInMemory(
        [row for _, row in tokenized_completely(rows, renderer, Encoder(renderer.special, tokenizer))]
    )
    done = within_limits(trees, np.arange(len(trees)), tokenizer, config, context_length)
    counted = renderer.counted + Counter(done.counted)
    source = rows[0].origin.source if rows else ""
    refusal = unfaithful_refusal(source, counted, renderer.unfaithful, len(rows), config.max_bad_fraction)
    if refusal is not None:
        raise PlauditError(refusal)
    if rows and not done.rows:
        reasons = "; ".join(f"{number} {what}" for what, number in counted.items())
        raise PlauditError(f"{source}: no row is left of {len(rows)}: {reasons}; check the data")
    return replace(done, counted=counted)


def check_eos_token(tokenizer: Any) -> None:
    """Raise PlauditError if a tokenizer has no EOS token, with which responses end."""
    if tokenizer.eos_token_id is None:
        raise PlauditError("the tokenizer has no EOS token; set eos_token in the stage's model section")


def within_limits(
    trees: Trees[R], chosen: Indices, tokenizer: Any, config: DataConfig, context_length: int
) -> Tokenized[R]:
    """Return the chosen rows (indices of ``trees``) within the limits of length, without indistinct responses.

    Raises PlauditError if all are too long, or with ``overlong: error`` if one is.
    """
    limits = Limits.of(config, context_length, tokenizer)
    overlong = limits.exceeded(trees, chosen)
    number = int(overlong.sum())
    if number and config.overlong == "error":
        raise PlauditError(limits.message(trees[int(chosen[overlong.argmax()])]))
    rows, cut = LimitedRows(trees, chosen, overlong, limits, tokenizer), config.overlong == "truncate"
    left_out = limits.left_out(trees, chosen, overlong, cut) if number else 0.0
    if cut:
        return replace(_without_indistinct(rows), truncated=number, left_out=left_out)
    if number and number == len(chosen):
        raise PlauditError(f"all {number} rows are too long; " + limits.message(trees[int(chosen[0])]))
    return replace(_without_indistinct(rows.only(~overlong)), dropped=number, left_out=left_out)


def _without_indistinct(rows: LimitedRows[R]) -> Tokenized[R]:
    """Return the rows of which something is left without indistinct responses, and count what is not."""
    nothing_left, some_left_out = (
        rows.are_cut_to(lengths) for lengths in (rows.trees.nothing_left_at, rows.trees.indistinct_at)
    )
    counted = Counter(
        {INDISTINCT_ROWS: int(nothing_left.sum()), INDISTINCT: int((some_left_out & ~nothing_left).sum())}
    )
    return Tokenized(rows.only(~nothing_left), counted=+counted)


def with_loss_on_all(tree: PromptTree) -> PromptTree:
    """Move all prompt tokens except the first into the only response, so that they are learned as well.

    Tokens of the response that are not learned remain so.
    """
    if len(tree.responses) != 1:
        raise PlauditError("loss_on=all needs exactly one response per prompt; set loss_on=response")
    (response,), moved = tree.responses, tree.prompt[1:]
    learned = None if tree.learned is None else ((True,) * len(moved) + tree.learned[0],)
    return PromptTree(tree.prompt[:1], (moved + response,), learned)


def with_final_turn_alone(row: R) -> R:
    """Return a row of which only the response is learned."""
    if not isinstance(row, ResponseRow) or isinstance(row.prompt, str):
        return row
    return cast(R, replace(row, prompt=tuple(replace(turn, learned=False) for turn in row.prompt)))


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


def tokenized_completely(rows: Sequence[R], renderer: Renderer, encoder: Encoder) -> list[tuple[int, TokenizedRow[R]]]:
    """Return all tokens of rows, each with the index of its row; a row may give several, or none."""
    with _refused_without_unknown_token():
        found = [*_text_rows(rows, renderer, encoder), *_prompted_rows(rows, renderer, encoder)]
    return sorted(found, key=lambda pair: pair[0])


def _text_rows(rows: Sequence[R], renderer: Renderer, encoder: Encoder) -> Iterator[tuple[int, TokenizedRow[R]]]:
    tokenizer = encoder.tokenizer
    numbered = [(index, row) for index, row in enumerate(rows) if row.prompt is None]
    all_ids = encoder.encode([(renderer.text(row.responses[0]), False) for _, row in numbered])
    for (index, row), ids in zip(numbered, all_ids, strict=True):
        if not ids:
            renderer.counted[UNWRITTEN] += 1
            continue
        if tokenizer.bos_token_id is not None and ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        tree = PromptTree(tuple(ids[:1]), ((*ids[1:], tokenizer.eos_token_id),))
        yield index, TokenizedRow(row, tree, "")


def _prompted_rows(rows: Sequence[R], renderer: Renderer, encoder: Encoder) -> Iterator[tuple[int, TokenizedRow[R]]]:
    numbered = [
        (index, row, rendered)
        for index, row in enumerate(rows)
        if row.prompt is not None
        for rendered in renderer.render(row)
    ]
    all_rendered = [rendered for _, _, rendered in numbered]
    prompts = encoder.encode([(rendered.prompt, rendered.special_tokens) for rendered in all_rendered])
    encoded = iter(encoder.encode_parts(all_rendered, prompts))
    for (index, row, rendered), prompt in zip(numbered, prompts, strict=True):
        responses, written = [], bool(prompt)
        for parts in rendered.responses:
            segments = [Segment(tuple(ids), part.learned) for ids, part in zip(next(encoded), parts, strict=True)]
            written = written and any(segment.tokens for segment in segments)
            if not (rendered.special_tokens and parts[-1].text.text.rstrip().endswith(renderer.ends)):
                segments[-1] = Segment((*segments[-1].tokens, encoder.tokenizer.eos_token_id))
            responses.append(segments)
        if not written:
            renderer.counted[UNWRITTEN] += 1
            continue
        text = rendered.prompt.text
        if rendered.special_tokens:
            text = encoder.tokenizer.decode(prompt, skip_special_tokens=True)
        yield index, TokenizedRow(row, _tree(tuple(prompt), responses), text)


def _tree(prompt: tuple[int, ...], responses: Sequence[Sequence[Segment]]) -> PromptTree:
    if any(len(segments) > 1 for segments in responses):
        return PromptTree.of_segments(prompt, responses)
    return PromptTree(prompt, tuple(segments[0].tokens for segments in responses))
