"""Open-Assistant conversations: sibling replies have a human ``rank``, where 0 is best (Köpf et al. 2023).

They are published as trees and, in the hub dataset, as a flat table of messages whose ``parent_id`` defines the tree.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, has_value, ranking_or_tie
from plaudit.data.formats.values import label, structured, whole_number
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row

_ROLES = {"prompter": "user", "assistant": "assistant"}


def _tree(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    root = structured(record["prompt"])
    if not isinstance(root, Mapping):
        raise BadRowError("prompt is not a tree of messages")
    yield from _rankings_below(root, origin, kind)


def _gather_trees(records: Iterable[tuple[Origin, Record]]) -> list[tuple[Origin, Record]]:
    """Group the messages of each tree; a tree has the line number of its first message."""
    trees: dict[str, tuple[Origin, Record]] = {}
    for line, record in records:
        _, tree = trees.setdefault(str(record.get("message_tree_id")), (line, {"turns": []}))
        tree["turns"].append(record)
    return list(trees.values())


def _messages(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    nodes: dict[str, dict[str, Any]] = {}
    for message in record["turns"]:
        name = message.get("message_id")
        if not isinstance(name, str) or name in nodes:
            raise BadRowError("a message has no unique message_id")
        nodes[name] = {**message, "replies": []}
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if not parent:
            roots.append(node)
        elif not isinstance(parent, str):
            raise BadRowError("parent_id is not a string")
        elif parent in nodes:
            nodes[parent]["replies"].append(node)
        else:
            yield Unused("message without its parent (dropped with all replies below it)")
    if len(roots) != 1:
        raise BadRowError("there must be exactly one message without parent_id")
    below = sum(1 for _ in _walk(roots[0]))
    orphans = sum(bool(node.get("parent_id")) and node["parent_id"] not in nodes for node in nodes.values())
    if not orphans and below < len(nodes):
        raise BadRowError("messages are replies to each other, in a circle")
    yield from _rankings_below(roots[0], origin, kind)


def _walk(root: Record) -> Iterator[Record]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(_replies(node))


def _rankings_below(root: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Yield a ranking per prompter message with two or more ranked replies; its prompt is the path to the message."""
    waiting: list[tuple[Record, tuple[Message, ...]]] = [(root, ())]
    while waiting:
        node, before = waiting.pop()
        if _is_deleted(node):
            yield Unused("deleted message, with all below it")
            continue
        path = (*before, _message(node))
        waiting.extend((reply, path) for reply in reversed(_replies(node)))
        if path[-1].role == "user":
            yield from _rankings(node, path, origin, kind)


def _is_deleted(node: Record) -> bool:
    return bool(has_value(node.get("deleted"))) and label(node["deleted"], "deleted")


def _message(node: Record) -> Message:
    role, text = node.get("role"), node.get("text")
    if not isinstance(role, str) or role not in _ROLES or not isinstance(text, str):
        raise BadRowError("a message has no text or no known role")
    return Message(_ROLES[role], text)


def _replies(node: Record) -> list[Record]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise BadRowError("replies is not a list of messages")
    return replies


def _rankings(node: Record, path: tuple[Message, ...], origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    kept = [reply for reply in _replies(node) if not _is_deleted(reply)]
    ranked = [reply for reply in kept if has_value(reply.get("rank")) and _message(reply).content.strip()]
    for _ in range(len(kept) - len(ranked)):
        yield Unused("reply without text or rank")
    if len(ranked) < 2:
        yield Unused("prompt with fewer than two ranked replies")
        return
    ranks = [whole_number(reply["rank"], "rank") for reply in ranked]
    yield from ranking_or_tie(path, [reply["text"] for reply in ranked], ranks, origin, kind)


def _is_tree(value: object) -> bool:
    return isinstance(value, Mapping) and "replies" in value


FORMATS = (
    Format(
        "open_assistant",
        ("prompt",),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _tree,
        ignores=("message_tree_id", "tree_state"),
        matches=lambda record: _is_tree(structured(record["prompt"])),
        judgement=("rank",),
        recognized_by="`prompt` with `replies`",
        ties="kept; a tie of all gives no row",
        dialogue=True,
        labels="rank 0 is best",
    ),
    Format(
        "open_assistant_messages",
        ("message_id", "message_tree_id", "role", "text"),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _messages,
        also_reads=("parent_id", "rank", "deleted"),
        ignores=("tree_state", "labels", "detoxify", "emojis", "review_result", "review_count", "synthetic"),
        judgement=("rank",),
        ties="kept; a tie of all gives no row",
        dialogue=True,
        labels="rank 0 is best",
        group=_gather_trees,
    ),
)
