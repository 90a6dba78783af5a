"""Two responses to a prompt and a judgement of which one is better: a winner, votes, or a score for each."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    first_of,
    has_value,
    ranking_or_tie,
)
from plaudit.data.formats.dialogues import dialogue_of, is_dialogue, not_learned
from plaudit.data.formats.labeled import DIALOGUES
from plaudit.data.formats.prompts import AROUND, PROMPTS, around, input_read, joined
from plaudit.data.formats.sides import judged_dialogue, judged_side
from plaudit.data.formats.winners import (
    WINNERS,
    Coding,
    Winner,
    by_scores,
    coding_of,
    ending_of,
    lists_answers,
    ranks,
    winner,
)
from plaudit.data.rows import LabeledRow, Origin, Prompt, PromptRow, RankingRow, ResponseRow, Row
from plaudit.errors import PlauditError

KINDS = (RankingRow, LabeledRow, ResponseRow, PromptRow)
DIFFERENT_PROMPTS = "the responses follow different earlier turns"

_STEMS = (
    "response", "output", "answer", "completion", "generation", "continuation", "candidate", "summary", "reply",
    "conversation", "text", "story",
)  # fmt: skip
_SCORE_STEMS = ("score", "rating", "reward", "quality", "helpfulness", "upvotes")
# Each pair of endings, with the endings that must not be there: a third response is not a comparison of two.
_ENDINGS = (("a", "b", "c"), ("1", "2", "03"), ("0", "1", "2"), ("left", "right", ""))
_SEPARATORS = ("_", "", "-", ".", " ")
_OTHER_PAIRS = (
    ("model_a_response", "model_b_response"),
    ("left_response", "right_response"),
    ("first_response", "second_response"),
    ("left", "right"),
    ("a", "b"),
)


def pair_in(record: Record) -> tuple[str, str] | None:
    """Return the columns with the two responses, such as response_a and response_b."""
    return _pair(tuple(record), _STEMS, _OTHER_PAIRS)


@lru_cache(maxsize=256)
def _pair(
    columns: tuple[str, ...], stems: tuple[str, ...], others: tuple[tuple[str, str], ...] = ()
) -> tuple[str, str] | None:
    lower = [column.lower() for column in columns]
    # Of two columns that differ only by case, the one in lower case is meant, or else neither.
    spelled = {
        name: name if name in columns else column
        for name, column in zip(lower, columns, strict=True)
        if name in columns or lower.count(name) == 1
    }
    for stem in stems:
        for separator in _SEPARATORS:
            for first, second, further in _ENDINGS:
                names = (f"{stem}{separator}{first}", f"{stem}{separator}{second}")
                more = any(f"{stem}{separator}{other}" in spelled for other in further)
                if names[0] in spelled and names[1] in spelled and not more:
                    return spelled[names[0]], spelled[names[1]]
    return next(((spelled[one], spelled[two]) for one, two in others if one in spelled and two in spelled), None)


def _scores_in(record: Record) -> tuple[str, str] | None:
    """Return the columns with the scores of the two responses."""
    pair, scores = pair_in(record), _pair(tuple(record), _SCORE_STEMS)
    fits = pair is not None and scores is not None and _endings(pair) == _endings(scores)
    return scores if fits else None


def _endings(pair: tuple[str, str]) -> tuple[str, ...]:
    return tuple(ending_of(name).lower() for name in pair)


_VOTE = re.compile(r"(winner|choice|preference|preferred|verdict|vote|annotator|rater|judge|label)s?[_ -]?\d+")


def _votes_in(record: Record) -> list[str]:
    """Return the columns with the votes of single annotators, such as annotator_1 and annotator_2."""
    return [column for column in record if _VOTE.fullmatch(column)]


def _reads(record: Record) -> tuple[str, ...]:
    prompt = first_of(record, (*PROMPTS, *DIALOGUES))
    return (
        *(pair_in(record) or ()),
        *(_scores_in(record) or ()),
        *input_read(record),
        *((prompt,) if prompt is not None else ()),
    )


def _has_pair(record: Record) -> bool:
    pair = pair_in(record)
    if pair is None or not all(has_value(record[name]) for name in pair):
        return False
    return first_of(record, (*PROMPTS, *DIALOGUES)) is not None or all(is_dialogue(record[name]) for name in pair)


def compared(sides: Sequence[tuple[Prompt, str]], better: Winner, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Yield the ranking of two responses; nothing can be learned where they answer different turns."""
    if sides[0][0] != sides[1][0]:
        yield Unused(DIFFERENT_PROMPTS)
        return
    yield from ranking_or_tie(sides[0][0], [response for _, response in sides], ranks(better), origin, kind)


def _side(record: Record, name: str) -> tuple[Prompt, str]:
    if first_of(record, PROMPTS) is not None:
        return judged_side(record, PROMPTS, record[name], name)
    if is_dialogue(record[name]) and len(dialogue_of(record[name], name)) > 1:
        return judged_dialogue(record, record[name], name)
    column = first_of(record, DIALOGUES) or "messages"
    prompt = not_learned(joined(around(record), dialogue_of(record.get(column), column)))
    return judged_side({"prompt": [message.as_mapping() for message in prompt]}, "prompt", record[name], name)


def _comparison(coding: Coding, record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    pair, column = _pair_of(record), first_of(record, WINNERS) or "winner"
    better = winner(record.get(column), record, pair, coding, column)
    scores = _scores_in(record)
    if scores is not None and all(has_value(record[name]) for name in scores):
        by_score = by_scores([record[name] for name in scores], scores)
        if better is not None and by_score is not None and by_score != better:
            raise BadRowError(f"{column} and the scores {', '.join(scores)} contradict each other")
    yield from compared([_side(record, name) for name in pair], better, origin, kind)


def _annotators(coding: Coding, record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    pair, columns = _pair_of(record), _votes_in(record)
    votes = [record[column] for column in columns if has_value(record[column])]
    better = winner(votes, record, pair, coding, ", ".join(columns))
    yield from compared([_side(record, name) for name in pair], better, origin, kind)


def _settled_votes(known: Format, records: Sequence[Record]) -> Format:
    usable = [record for record in records if pair_in(record) is not None and _votes_in(record)]
    coding = Coding(None)
    if usable:
        names = _pair_of(usable[0])
        values = [[record[column] for column in _votes_in(record)] for record in usable]
        coding = coding_of(values, (ending_of(names[0]), ending_of(names[1])), ", ".join(_votes_in(usable[0])))
    return replace(known, convert=lambda record, origin, kind: _annotators(coding, record, origin, kind))


def _scored_pair(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    pair, scores = _pair_of(record), _scores_in(record)
    if scores is None:
        raise BadRowError("no scores of both responses")
    better = by_scores([record[name] for name in scores], scores)
    yield from compared([_side(record, name) for name in pair], better, origin, kind)


def _pair_of(record: Record) -> tuple[str, str]:
    pair = pair_in(record)
    if pair is None:
        raise BadRowError("no two responses, such as response_a and response_b")
    return pair


Read = Callable[[Coding, Record, Origin, Kind], Iterator[Row | Unused]]


def settled(read: Read, columns: tuple[str, ...], pair: Callable[[Record], tuple[str, str] | None]) -> Any:
    """Return how a format finds out whether a file counts its responses from 0 or from 1."""

    def settle(known: Format, records: Sequence[Record]) -> Format:
        """Return the format with the coding of the file that begins with ``records``."""
        usable = [record for record in records if pair(record) is not None and first_of(record, columns) is not None]
        coding = Coding(None)
        if usable:
            column = first_of(usable[0], columns) or columns[0]
            names = pair(usable[0]) or ("a", "b")
            endings = (ending_of(names[0]), ending_of(names[1]))
            coding = coding_of([record.get(column) for record in usable], endings, column)
        return replace(known, convert=lambda record, origin, kind: read(coding, record, origin, kind))

    return settle


def coding_of_record(values: Sequence[Any], pair: tuple[str, str], column: str) -> Coding:
    """Return the coding of a single record's judgements; raises BadRowError if two codings are possible."""
    try:
        return coding_of(values, (ending_of(pair[0]), ending_of(pair[1])), column)
    except PlauditError as error:
        raise BadRowError(str(error)) from None


FORMATS = (
    Format(
        "comparison",
        (WINNERS,),
        KINDS,
        lambda record, origin, kind: _comparison(Coding(None), record, origin, kind),
        also_reads=AROUND,
        varying=_reads,
        matches=lambda record: _has_pair(record) and not lists_answers(record[first_of(record, WINNERS) or "winner"]),
        settle=settled(_comparison, WINNERS, pair_in),
        judgement=WINNERS,
        unordered=True,
        recognized_by="two responses, such as `response_a` and `response_b`, and `winner`, `preference`, `choice`, …",
        ties="`tie`, 1.5, or as many votes for each: counted, no row",
        dialogue=True,
        labels="a side (a/b, left/right, first/second, `A>B`, the name of the column or model, the response's text), "
        "0/1, 1/2, 1 to 2, votes",
    ),
    Format(
        "annotators",
        (),
        KINDS,
        lambda record, origin, kind: _annotators(Coding(None), record, origin, kind),
        also_reads=AROUND,
        varying=lambda record: (*_reads(record), *_votes_in(record)),
        matches=lambda record: _has_pair(record) and len(_votes_in(record)) > 1 and not first_of(record, WINNERS),
        settle=_settled_votes,
        unordered=True,
        recognized_by="two responses and a vote per annotator, such as `annotator_1`, `annotator_2`, …",
        ties="as many votes for each: counted, no row",
        dialogue=True,
        labels="as in `comparison`; the majority counts",
    ),
    Format(
        "scored_pair",
        (),
        KINDS,
        _scored_pair,
        also_reads=AROUND,
        varying=_reads,
        matches=lambda record: _has_pair(record) and _scores_in(record) is not None and not first_of(record, WINNERS),
        judgement=tuple(f"{stem}_{end}" for stem in _SCORE_STEMS for end in ("a", "b", "1", "2", "0")),
        unordered=True,
        recognized_by="two responses and a score for each, such as `score_a` and `score_b`",
        ties="equal scores: counted, no row",
        dialogue=True,
        labels="the higher score is better",
    ),
)
