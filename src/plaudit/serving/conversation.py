"""A conversation: its turns, every candidate reply with scores and ranks, undoing and saving."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plaudit.data.rows import Message
from plaudit.errors import PlauditError


@dataclass(frozen=True)
class Candidate:
    """A reply that the model proposed. ``ranks`` start at 1, the best; equal scores have the same rank."""

    text: str
    tokens: int
    ended: bool
    scores: Mapping[str, float]
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class Turn:
    """A user message, the candidates, and the index ``chosen`` of the reply.

    ``system``: the system message at that time. ``left_out``: the number of earlier turns that did not fit into the
    model's context.
    """

    user: str
    candidates: tuple[Candidate, ...]
    chosen: int
    system: str | None = None
    left_out: int = 0

    @property
    def reply(self) -> Candidate:
        """The candidate that was chosen as the reply."""
        return self.candidates[self.chosen]


@dataclass
class Conversation:
    """The turns so far, and the files in which they were ``saved``.

    ``messages_sent`` also counts undone turns, so a repeated message gets new candidates.
    """

    turns: list[Turn] = field(default_factory=list)
    system: str | None = None
    messages_sent: int = 0
    saved: set[Path] = field(default_factory=set)

    def messages(self, user: str, left_out: int = 0) -> tuple[Message, ...]:
        """Return the dialogue up to a new user message, without the first ``left_out`` turns."""
        messages = [Message("system", self.system)] if self.system else []
        for turn in self.turns[left_out:]:
            messages += [Message("user", turn.user), Message("assistant", turn.reply.text)]
        return (*messages, Message("user", user))

    def add(self, turn: Turn) -> None:
        """Append a turn."""
        self.turns.append(turn)
        self.messages_sent += 1

    def undo(self) -> Turn | None:
        """Remove the last turn and return it; None if there is none."""
        return self.turns.pop() if self.turns else None

    def records(self) -> list[dict[str, Any]]:
        """Return a JSON object for each turn, with all candidates."""
        return [{"turn": number, "reply": turn.reply.text, **asdict(turn)} for number, turn in enumerate(self.turns, 1)]

    def save(self, path: Path) -> None:
        """Write one JSON object per turn.

        Raises PlauditError when the file cannot be written, or holds something else than this conversation.
        """
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in self.records()]
        try:
            if path.is_file() and path not in self.saved:
                raise PlauditError(f"{path} exists already; choose another file, or delete it")
            path.write_text("".join(lines), encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
            reason = error.strerror if isinstance(error, OSError) else error
            raise PlauditError(f"cannot write {path}: {reason}; choose another file") from error
        self.saved.add(path)


def ranked_candidates(
    texts: Sequence[str], tokens: Sequence[int], ended: Sequence[bool], scores: Mapping[str, Sequence[float]]
) -> tuple[Candidate, ...]:
    """Return the candidates with their score and rank from each source."""
    all_ranks = {name: ranks(values) for name, values in scores.items()}
    return tuple(
        Candidate(
            text,
            tokens[i],
            ended[i],
            {name: values[i] for name, values in scores.items()},
            {name: values[i] for name, values in all_ranks.items()},
        )
        for i, text in enumerate(texts)
    )


def ranks(scores: Sequence[float]) -> list[int]:
    """Return each score's rank: 1 plus the number of higher scores."""
    return [1 + sum(other > score for other in scores) for score in scores]


def best_candidate(candidates: Sequence[Candidate]) -> int:
    """Return the index of the first candidate that the first source ranks best; 0 without sources."""
    firsts = [next(iter(candidate.ranks.values()), 1) for candidate in candidates]
    return firsts.index(1)
