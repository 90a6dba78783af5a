"""Open-Assistant conversation trees: sibling replies carry a human ``rank``, 0 is best (Köpf et al. 2023)."""

from collections.abc import Iterator, Mapping

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, ranking
from plaudit.data.rows import Message, Origin, Row

_ROLES = {"prompter": "user", "assistant": "assistant"}


def _open_assistant(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Every prompter message with two or more ranked replies gives a ranking; its prompt is the path down to it."""
    root = record["prompt"]
    if not isinstance(root, Mapping):
        raise BadRowError("prompt is not a tree of messages")
    waiting: list[tuple[Record, tuple[Message, ...]]] = [(root, ())]
    while waiting:
        node, before = waiting.pop()
        if node.get("deleted"):
            yield Unused("deleted message, with all below it")
            continue
        path = (*before, _message(node))
        waiting.extend((reply, path) for reply in reversed(_replies(node)))
        if path[-1].role == "user":
            yield from _rankings(node, path, origin)


def _message(node: Record) -> Message:
    role, text = node.get("role"), node.get("text")
    if not isinstance(role, str) or role not in _ROLES or not isinstance(text, str):
        raise BadRowError("a message without text or known role")
    return Message(_ROLES[role], text)


def _replies(node: Record) -> list[Record]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise BadRowError("replies is not a list of messages")
    return replies


def _rankings(node: Record, path: tuple[Message, ...], origin: Origin) -> Iterator[Row | Unused]:
    kept = [reply for reply in _replies(node) if not reply.get("deleted")]
    ranked = [reply for reply in kept if isinstance(reply.get("rank"), int) and _message(reply).content.strip()]
    for _ in range(len(kept) - len(ranked)):
        yield Unused("reply without text or rank")
    if len(ranked) < 2:
        yield Unused("prompt with fewer than two ranked replies")
        return
    yield ranking(path, [reply["text"] for reply in ranked], [reply["rank"] for reply in ranked], origin)


FORMATS = (
    Format(
        "open_assistant",
        ("prompt",),
        ("ranking", "labelled", "response", "prompt"),
        _open_assistant,
        also_reads=("message_tree_id", "tree_state"),
        matches=lambda record: isinstance(record["prompt"], Mapping) and "replies" in record["prompt"],
    ),
)
