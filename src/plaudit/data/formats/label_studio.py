"""Exports of Label Studio: tasks with annotations, and the small export with a line per annotation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, first_of, ranking_or_tie, text_in
from plaudit.data.formats.comparisons import KINDS, coding_of_record, pair_in
from plaudit.data.formats.prompts import PROMPTS, prompt_in
from plaudit.data.formats.values import number, structured
from plaudit.data.formats.winners import by_scores, ending_of, majority, ranks, winner
from plaudit.data.rows import Origin, Row

_ITEM_TEXTS = ("body", "text", "html")


def _label_studio(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """A task with two texts, of which one is chosen (tags Pairwise or Choices) or both are rated (tag Rating), or with
    a list of texts that annotators put in order (tags List and Ranker).
    """
    data = structured(record["data"])
    annotations = structured(record["annotations"])
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        raise BadRowError("data or annotations is not structured as in a task of Label Studio")
    if not all(isinstance(annotation, Mapping) for annotation in annotations):
        raise BadRowError("annotations is not a list of objects")
    given = [_results(annotation) for annotation in annotations if not annotation.get("was_cancelled")]
    ranked = any(_rankers(results) for results in given)
    pair = pair_in(data)
    if pair is None and not ranked and given:
        raise BadRowError("data has no two responses, such as answer1 and answer2")
    prompt = prompt_in(data, PROMPTS)
    if not given:
        yield Unused("task without an annotation")
    elif ranked or pair is None:
        yield from ranking_or_tie(prompt, *_in_order(data, [_order(results) for results in given]), origin, kind)
    else:
        texts = [text_in(data, name, "response") for name in pair]
        votes = [_task_vote(results, data, pair) for results in given]
        yield from ranking_or_tie(prompt, texts, ranks(majority(votes, "annotations")), origin, kind)


def _results(annotation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = annotation.get("result")
    return [result for result in given if isinstance(result, Mapping)] if isinstance(given, list) else []


def _rankers(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [result for result in results if result.get("type") == "ranker"]


def _order(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ids of an annotation's items, the best one first: a list, or one under the name of the tag."""
    found = _rankers(results)
    if len(found) != 1:
        raise BadRowError("an annotation does not hold one order of the responses")
    value = found[0].get("value")
    order = value.get("ranker") if isinstance(value, Mapping) else None
    if isinstance(order, Mapping) and len(order) == 1:
        order = order.get(found[0].get("from_name"), order)
    if isinstance(order, Mapping):
        raise BadRowError("items are sorted into buckets, which have no order; use a Ranker without buckets")
    if not isinstance(order, list) or not order:
        raise BadRowError("an annotation does not hold one order of the responses")
    return [str(item) for item in order]


def _in_order(data: Record, orders: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """Return the texts of the items that were ranked, and their ranks, summed over the annotators."""
    ids = sorted(orders[0])
    lists = [items for items in map(_items, data.values()) if sorted(items) == ids]
    if any(sorted(order) != ids for order in orders) or len(set(ids)) < len(ids) or len(lists) != 1:
        raise BadRowError("an order does not name the id of every item of one list in data, each once")
    (items,) = lists
    texts = [text_in(item, first_of(item, _ITEM_TEXTS) or "body", "response") for item in items.values()]
    return texts, [sum(order.index(name) for order in orders) for name in items]


def _items(value: Any) -> dict[str, Mapping[str, Any]]:
    """Return the items of a list by id; empty for anything else."""
    items = structured(value)
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and "id" in item for item in items):
        return {}
    found = {str(item["id"]): item for item in items}
    return found if len(found) == len(items) else {}


def _task_vote(results: Sequence[Mapping[str, Any]], data: Record, pair: tuple[str, str]) -> int | None:
    chosen = [result for result in results if result.get("type") in ("pairwise", "choices")]
    if len(chosen) == 1 and isinstance(given := chosen[0].get("value"), Mapping):
        value = given.get("selected", given.get("choices"))
        better = winner(value, data, pair, coding_of_record([value], pair, "annotations"), "annotations")
        if better is not None and value in ("left", "right") and _swapped(str(chosen[0].get("to_name")), pair):
            return 1 - better
        return better
    rated = {str(result.get("to_name")): result.get("value") for result in results if result.get("type") == "rating"}
    if not chosen and len(rated) == 2 and set(rated) == set(pair):
        return by_scores([_rating(rated[name]) for name in pair], pair)
    raise BadRowError("an annotation does not hold one choice between the responses, or a rating of each")


def _swapped(shown: str, pair: tuple[str, str]) -> bool:
    """Return whether the second response was shown on the left, by the names of the compared tags: "text2,text1"."""
    names = [name.strip() for name in shown.split(",")]
    return names == [pair[1], pair[0]] or [ending_of(name) for name in names] == [
        ending_of(name) for name in pair[::-1]
    ]


def _rating(value: Any) -> float:
    return number(value.get("rating") if isinstance(value, Mapping) else None, "rating")


def _label_studio_min(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """The small export of a task: its data and, under the name of the tag Pairwise, what was selected."""
    pair, controls = pair_in(record), _selections(record)
    if pair is None or len(controls) != 1:
        raise BadRowError("not two responses and one selection")
    value = record[controls[0]]
    better = winner(value, record, pair, coding_of_record([value], pair, controls[0]), controls[0])
    texts = [text_in(record, name, "response") for name in pair]
    yield from ranking_or_tie(prompt_in(record, PROMPTS), texts, ranks(better), origin, kind)


def _selections(record: Record) -> list[str]:
    return [column for column, value in record.items() if _is_selection(structured(value))]


def _is_selection(value: Any) -> bool:
    entries = [value] if isinstance(value, Mapping) else value
    return (
        isinstance(entries, list) and bool(entries) and all(isinstance(e, Mapping) and "selected" in e for e in entries)
    )


def _selection_reads(record: Record) -> list[str]:
    prompt = first_of(record, PROMPTS)
    return [*_selections(record), *(pair_in(record) or ()), *((prompt,) if prompt is not None else ())]


def _is_task(record: Record) -> bool:
    return isinstance(structured(record["data"]), Mapping) and isinstance(structured(record["annotations"]), list)


_COUNTS = (
    "predictions", "drafts", "meta", "file_upload", "total_annotations", "cancelled_annotations", "total_predictions",
    "comment_count", "unresolved_comment_count", "last_comment_updated_at", "comment_authors",
)  # fmt: skip

FORMATS = (
    Format(
        "label_studio",
        ("data", "annotations"),
        KINDS,
        _label_studio,
        ignores=_COUNTS,
        matches=_is_task,
        unordered=True,
        ties="as many annotations for each: counted, no row",
        labels="tags Pairwise, Choices, a Rating of each response, or a Ranker without buckets",
    ),
    Format(
        "label_studio_min",
        ("annotation_id",),
        KINDS,
        _label_studio_min,
        ignores=("id", "annotator", "created_at", "updated_at", "lead_time"),
        varying=_selection_reads,
        matches=lambda record: pair_in(record) is not None and bool(_selections(record)),
        unordered=True,
        recognized_by="`annotation_id`, two responses, and an object with `selected`",
        ties="none",
        labels="the side that is selected",
    ),
)
