"""Rows become trees whose tokens decode to the text, end correctly, and fit the limits."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row, TextRow
from plaudit.data.tokenization import Tokenized, tokenize_rows, with_loss_on_all
from plaudit.errors import PlauditError
from tiny_tokenizers import CHAT_TEMPLATE, byte_level, space_in_front

AT = Origin("rows.jsonl", 3)
BYTES, SPACED = byte_level(), space_in_front()
TOKENIZERS = {"byte level": BYTES, "space in front": SPACED, "adds EOS": space_in_front(add_eos=True)}
WORDS = st.lists(
    st.sampled_from(["Once", "upon", "open", "six.", "cats", "sky", "\n", "One,", "a"]), min_size=1, max_size=6
)


def _config(**options: object) -> DataConfig:
    return DataConfig.model_validate({"sources": ["rows.jsonl"], **options})


def _text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text


def _only(done: Tokenized[Any]) -> PromptTree:
    (tree,) = done.trees
    return tree


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(prompt=WORDS, response=WORDS, joint=st.sampled_from(["", " "]))
def test_prompt_and_response_read_as_the_joined_text(
    name: str, prompt: list[str], response: list[str], joint: str
) -> None:
    tokenizer = TOKENIZERS[name]
    before, after = " ".join(prompt), joint + " ".join(response)
    tree = _only(tokenize_rows([ResponseRow(before, after, AT)], tokenizer, _config(), 512))
    assert tree.responses[0][-1] == tokenizer.eos_token_id
    assert _text(tokenizer, tree.prompt + tree.responses[0]) == before + after
    alone = _only(tokenize_rows([PromptRow(before, AT)], tokenizer, _config(), 512))
    assert tree.prompt == alone.prompt


def test_tokens_are_those_of_the_joint_text_where_the_border_allows() -> None:
    for tokenizer in (BYTES, SPACED):
        tree = _only(tokenize_rows([ResponseRow("yak", " yak", AT)], tokenizer, _config(), 512))
        joint = tokenizer("yak yak")["input_ids"]
        assert [*tree.prompt, *tree.responses[0]] == [*joint, tokenizer.eos_token_id]


def test_prompts_do_not_end_with_eos() -> None:
    adds_eos = TOKENIZERS["adds EOS"]
    assert adds_eos("sky")["input_ids"][-1] == adds_eos.eos_token_id
    tree = _only(tokenize_rows([ResponseRow("sky", " blue", AT)], adds_eos, _config(), 512))
    assert adds_eos.eos_token_id not in tree.prompt
    assert tree.responses[0].count(adds_eos.eos_token_id) == 1
    same = _only(tokenize_rows([ResponseRow("sky", " blue", AT)], SPACED, _config(), 512))
    assert (tree.prompt, tree.responses) == (same.prompt, same.responses)


def test_plain_text_follows_the_bos_token_or_its_own_first_token() -> None:
    row, end = TextRow("The sky is blue.", AT), BYTES.eos_token_id
    ids = BYTES(row.text)["input_ids"]
    tree = _only(tokenize_rows([row], BYTES, _config(), 512))
    assert (tree.prompt, tree.responses) == ((ids[0],), ((*ids[1:], end),))
    # GPT-2 has a BOS token, and does not add it.
    tree = _only(tokenize_rows([row], byte_level(bos_token="<end>"), _config(), 512))
    assert (tree.prompt, tree.responses) == ((end,), ((*ids, end),))
    spaced = SPACED(row.text)["input_ids"]
    tree = _only(tokenize_rows([row], SPACED, _config(), 512))
    assert (tree.prompt, tree.responses) == ((1,), ((*spaced[1:], SPACED.eos_token_id),))


def test_rows_keep_their_content() -> None:
    rows: list[Row] = [
        RankingRow("The sky is", (" blue.", " green.", " grey."), (0, 2, 1), AT),
        LabeledRow("The sky is", (" red.",), (False,), AT),
        PromptRow("One, two", AT, {"topic": "numbers", "origin": "mine"}),
    ]
    done = tokenize_rows(rows, BYTES, _config(prompt_template="Q: {prompt}"), 512)
    assert [kept.row for kept in done.rows] == rows
    assert [kept.prompt_text for kept in done.rows] == ["Q: The sky is", "Q: The sky is", "Q: One, two"]
    ranking, labeled, prompt = done.trees
    assert [_text(BYTES, response) for response in ranking.responses] == [" blue.", " green.", " grey."]
    assert [_text(BYTES, response) for response in labeled.responses] == [" red."]
    assert prompt.responses == ()


def test_trees_keep_the_order_of_mixed_rows() -> None:
    rows: list[Row] = [TextRow("sky", AT), PromptRow("cats", AT), TextRow("dogs", AT), ResponseRow("a", " b", AT)]
    trees = tokenize_rows(rows, SPACED, _config(), 512).trees
    texts = [_text(SPACED, tree.prompt + (tree.responses[0] if tree.responses else ())) for tree in trees]
    assert texts == ["sky", "cats", "dogs", "a b"]


def test_chat_templates_bring_their_own_special_tokens() -> None:
    tokenizer = byte_level(CHAT_TEMPLATE)
    row = ResponseRow((Message("user", "Is it open?"),), "Yes.", AT)
    done = tokenize_rows([row], tokenizer, _config(), 512)
    tree = _only(done)
    assert tokenizer.decode(tree.prompt) == "<turn>user\nIs it open?<end>\n<turn>assistant\n"
    assert tokenizer.decode(tree.responses[0]) == "Yes.<end>\n"
    assert done.rows[0].prompt_text == "user\nIs it open?\nassistant\n"


def test_human_assistant_responses_begin_with_a_space() -> None:
    row = RankingRow((Message("user", "Is it open?"),), ("Yes.", "No."), (0, 1), AT)
    tree = _only(tokenize_rows([row], BYTES, _config(), 512))
    assert BYTES.decode(tree.prompt) == "\n\nHuman: Is it open?\n\nAssistant:"
    assert [BYTES.decode(response) for response in tree.responses] == [" Yes.<end>", " No.<end>"]


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(PlauditError, match="no EOS token"):
        tokenize_rows([TextRow("sky", AT)], tokenizer, _config(), 512)


# Twelve letters that are no words of the tokenizers: one token each (space_in_front adds BOS and a space).
LONG, SHORT = "zqzqzqzqzqzq", "zq"


def _sizes(tree: PromptTree) -> tuple[int, ...]:
    return (len(tree.prompt), *map(len, tree.responses))


@pytest.mark.parametrize(
    "limits, context, kept",
    [
        ({}, 15, 3),
        ({}, 14, 1),
        ({"max_prompt_tokens": 11}, 100, 2),
        ({"max_prompt_tokens": 12}, 100, 3),
        ({"max_response_tokens": 12}, 100, 2),
        ({"max_response_tokens": 13}, 100, 3),
    ],
)
def test_rows_beyond_a_limit_are_dropped_and_counted(limits: dict[str, int], context: int, kept: int) -> None:
    rows: list[Row] = [
        RankingRow(SHORT, (LONG, SHORT), (0, 1), AT),
        ResponseRow(LONG, SHORT, AT),
        ResponseRow(SHORT, SHORT, AT),
    ]
    sizes = [(2, 13, 3), (12, 3), (2, 3)]
    assert [_sizes(tree) for tree in tokenize_rows(rows, BYTES, _config(), 100).trees] == sizes
    done = tokenize_rows(rows, BYTES, _config(**limits), context)
    assert (len(done.trees), done.dropped, done.truncated) == (kept, 3 - kept, 0)
    lengths = [prompt + max(responses) for prompt, *responses in sizes]
    assert done.left_out == pytest.approx(1 - sum(lengths[-kept:]) / sum(lengths) if kept else 1)


@pytest.mark.parametrize(
    "limits, context, sizes",
    [
        ({}, 25, (12, 13, 3)),  # all fits
        ({}, 20, (10, 10, 3)),  # half each
        ({}, 24, (12, 12, 3)),  # the response is one token too long for its half
        ({"max_prompt_tokens": 5}, 25, (5, 13, 3)),
        ({"max_prompt_tokens": 5}, 15, (5, 10, 3)),
        ({"max_response_tokens": 4}, 14, (10, 4, 3)),
        ({"max_response_tokens": 4}, 100, (12, 4, 3)),
    ],
)
def test_truncation_cuts_prompts_left_and_responses_right(
    limits: dict[str, int], context: int, sizes: tuple[int, ...]
) -> None:
    row = RankingRow(LONG[:-1] + "x", (LONG, SHORT), (0, 1), AT)
    whole = _only(tokenize_rows([row], BYTES, _config(), 100))
    done = tokenize_rows([row], BYTES, _config(**limits, overlong="truncate"), context)
    tree = _only(done)
    assert _sizes(tree) == sizes
    assert done.truncated == int(sizes != (12, 13, 3))
    assert done.left_out == (25 - sizes[0] - sizes[1]) / 25
    assert done.dropped == 0
    assert tree.prompt == whole.prompt[-len(tree.prompt) :]
    assert tree.responses[0] == whole.responses[0][: sizes[1]]
    assert tree.responses[1] == whole.responses[1]
    assert done.rows[0].prompt_text == BYTES.decode(tree.prompt)
    assert done.rows[0].row == row


def test_truncation_keeps_a_leading_bos_token() -> None:
    row = PromptRow("One, two, three, four, five!", AT)
    whole = _only(tokenize_rows([row], SPACED, _config(), 100)).prompt
    tree = _only(tokenize_rows([row], SPACED, _config(overlong="truncate"), 5))
    assert tree.prompt == (whole[0], *whole[-4:])
    assert whole[0] == SPACED.bos_token_id


def test_an_overlong_row_is_an_error_if_configured() -> None:
    with pytest.raises(PlauditError, match=r"rows.jsonl line 3: prompt of 12 tokens with response of 3 exceeds.*14"):
        tokenize_rows([ResponseRow(LONG, SHORT, AT)], BYTES, _config(overlong="error"), 14)
    with pytest.raises(PlauditError, match=r"all 2 rows are too long; rows.jsonl line 3"):
        tokenize_rows([ResponseRow(LONG, SHORT, AT)] * 2, BYTES, _config(), 14)


def test_loss_on_all_moves_the_prompt_into_the_response() -> None:
    tree = _only(tokenize_rows([ResponseRow("The sky is", " blue.", AT)], SPACED, _config(), 512))
    moved = with_loss_on_all(tree)
    assert moved.prompt == tree.prompt[:1]
    assert moved.prompt + moved.responses[0] == tree.prompt + tree.responses[0]
    with pytest.raises(PlauditError, match="exactly one response"):
        with_loss_on_all(PromptTree((1,), ((2,), (3,))))


def test_learning_the_prompt_as_well_does_not_learn_what_a_tool_wrote() -> None:
    moved = with_loss_on_all(PromptTree((1, 2, 3), ((4, 5, 6),), learned=((True, False, True),)))
    assert moved.responses == ((2, 3, 4, 5, 6),)
    assert moved.learned == ((True, True, True, False, True),)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_parts_of_a_response_are_learned_by_their_flags(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    parts = ((" blue.", True), ("\nOnce upon", False), (" a sky.", True))
    row = ResponseRow("The sky is", "".join(text for text, _ in parts), AT, parts=parts)
    tree = _only(tokenize_rows([row], tokenizer, _config(), 512))
    assert _text(tokenizer, tree.prompt + tree.responses[0]) == "The sky is" + row.response
    flags = tree.flags(0)
    learned = [token for token, is_learned in zip(tree.responses[0], flags, strict=True) if is_learned]
    assert _text(tokenizer, tuple(learned)).replace(" ", "") == "blue.asky."
    assert (learned[-1], tree.responses[0].count(tokenizer.eos_token_id)) == (tokenizer.eos_token_id, 1)
    ended = ResponseRow(row.prompt, row.response + "<end>", AT, parts=(*parts[:2], (" a sky.<end>", True)))
    assert _only(tokenize_rows([ended], tokenizer, _config(), 512)) == tree
