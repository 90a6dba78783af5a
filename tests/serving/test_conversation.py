"""Conversations without a model: ranks, the choice, undoing, rendering and saving."""

import json
from pathlib import Path

import pytest

from plaudit.data.rows import Message
from plaudit.errors import PlauditError
from plaudit.serving.conversation import Conversation, Turn, best_candidate, ranked_candidates, ranks


def turn_of(user: str, reply: str, **options: object) -> Turn:
    candidates = ranked_candidates(
        ["other", reply], [3, 2], [True, False], {"first": [0.5, 2.0], "second": [1.0, -1.0]}
    )
    return Turn(user, candidates, best_candidate(candidates), **options)  # type: ignore[arg-type]


def test_ranks_count_from_the_best_and_share_ties() -> None:
    assert ranks([0.1, 3.0, 0.1, 2.0]) == [3, 1, 3, 2]
    assert ranks([]) == []


def test_the_first_source_chooses() -> None:
    turn = turn_of("hello", "hi")
    assert (turn.chosen, turn.reply.text) == (1, "hi")
    assert turn.reply.scores == {"first": 2.0, "second": -1.0}
    assert turn.reply.ranks == {"first": 1, "second": 2}
    assert best_candidate(ranked_candidates(["a", "b"], [1, 1], [True, True], {})) == 0


def test_messages_hold_system_and_turns_in_order() -> None:
    conversation = Conversation(system="be kind")
    conversation.add(turn_of("hello", "hi"))
    conversation.add(turn_of("again", "yes"))
    wanted = [("system", "be kind"), ("user", "hello"), ("assistant", "hi"), ("user", "again"), ("assistant", "yes")]
    assert conversation.messages("more") == tuple(Message(*turn) for turn in [*wanted, ("user", "more")])
    shorter = [wanted[0], *wanted[3:], ("user", "more")]
    assert conversation.messages("more", left_out=1) == tuple(Message(*turn) for turn in shorter)


def test_undo_removes_turns_but_not_their_random_draws() -> None:
    conversation = Conversation()
    conversation.add(turn_of("one", "1"))
    conversation.add(turn_of("two", "2"))
    undone = conversation.undo()
    assert undone is not None
    assert undone.user == "two"
    assert [turn.user for turn in conversation.turns] == ["one"]
    assert conversation.messages_sent == 2
    conversation.undo()
    assert conversation.undo() is None


def test_saved_lines_hold_every_candidate(tmp_path: Path) -> None:
    conversation = Conversation()
    conversation.add(turn_of("héllo\nthere", "hi", system="be kind", left_out=2))
    conversation.add(turn_of("again", "yes"))
    conversation.save(tmp_path / "talk.jsonl")
    conversation.save(tmp_path / "talk.jsonl")  # it may be saved again
    first, second = map(json.loads, (tmp_path / "talk.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["turn"], first["user"], first["reply"]) == (1, "héllo\nthere", "hi")
    assert (first["chosen"], first["system"], first["left_out"]) == (1, "be kind", 2)
    assert first["candidates"][0] == {
        "text": "other",
        "tokens": 3,
        "ended": True,
        "scores": {"first": 0.5, "second": 1.0},
        "ranks": {"first": 2, "second": 1},
    }
    assert (second["turn"], second["system"]) == (2, None)


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="choose another file"):
        Conversation().save(tmp_path / "missing" / "talk.jsonl")


def test_saving_overwrites_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("precious")
    with pytest.raises(PlauditError, match=r"data.jsonl exists already; choose another file"):
        Conversation().save(tmp_path / "data.jsonl")
    assert (tmp_path / "data.jsonl").read_text() == "precious"
