"""Prompt trees: sizes, tokens that are not learned, and errors."""

import pytest

from plaudit.batching.trees import PromptTree, Segment
from plaudit.errors import PlauditError

PLAIN = PromptTree((4, 5), ((6, 7, 1), (8, 1)))
MIXED = PromptTree((4,), ((6, 7, 1), (8, 1)), learned=((False, True, True), (True, False)))


def test_sizes_by_hand() -> None:
    assert (PLAIN.positions, PLAIN.lengths, PLAIN.response_tokens) == (7, (3, 2), 5)
    assert (MIXED.positions, MIXED.lengths, MIXED.response_tokens) == (6, (2, 1), 3)


def test_flags_say_which_tokens_are_learned() -> None:
    assert [PLAIN.flags(number) for number in (0, 1)] == [(True, True, True), (True, True)]
    assert [MIXED.flags(number) for number in (0, 1)] == [(False, True, True), (True, False)]


def test_segments_become_tokens_and_flags() -> None:
    dialogue = [Segment((5, 6)), Segment((7, 8, 9), learned=False), Segment((10, 1))]
    tree = PromptTree.of_segments((4,), [dialogue, [Segment((5, 1))]])
    assert tree.responses == ((5, 6, 7, 8, 9, 10, 1), (5, 1))
    assert tree.learned == ((True, True, False, False, False, True, True), (True, True))
    assert (tree.lengths, tree.response_tokens, tree.positions) == ((4, 2), 6, 10)
    assert PromptTree.of_segments((4,), [[Segment((5, 1))]]) == PromptTree((4,), ((5, 1),))


def test_a_tree_needs_a_prompt_and_tokens_in_every_response() -> None:
    with pytest.raises(PlauditError, match=r"prompt has no tokens.*BOS"):
        PromptTree((), ((5, 1),))
    with pytest.raises(PlauditError, match=r"response has no tokens.*EOS"):
        PromptTree((4,), ((5, 1), ()))


def test_a_response_without_a_learned_token_is_refused() -> None:
    with pytest.raises(PlauditError, match="no token to learn"):
        PromptTree.of_segments((4,), [[Segment((5, 1))], [Segment((6, 1), learned=False)]])
    with pytest.raises(ValueError, match="one flag per token"):
        PromptTree((4,), ((5, 1),), learned=((True,),))
