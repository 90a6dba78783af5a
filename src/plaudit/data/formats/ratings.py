"""Rated responses: HelpSteer's attributes and UltraFeedback's completions."""

from collections.abc import Iterable, Iterator, Mapping

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, Unused, ranking_or_tie, text_in
from plaudit.data.formats.prompts import prompt_in
from plaudit.data.formats.values import number, structured
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row

_KINDS = (RankingRow, LabeledRow, ResponseRow, PromptRow)


def _gather_responses(records: Iterable[tuple[Origin, Record]]) -> Iterator[tuple[Origin, Record]]:
    """Group the successive lines of one prompt; the group has the origin of the first."""
    group: list[Record] = []
    start = Origin("", 0)
    for origin, record in records:
        if group and record.get("prompt") != group[0].get("prompt"):
            yield start, {"responses": group}
            group = []
        if not group:
            start = origin
        group.append(record)
    if group:
        yield start, {"responses": group}


def _helpsteer(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Responses to one prompt, ranked by helpfulness (Wang et al. 2023 and 2024)."""
    rated = record["responses"]
    texts = [text_in(response, "response") for response in rated]
    scores = [number(response.get("helpfulness"), "helpfulness") for response in rated]
    prompt = prompt_in(rated[0])
    if kind is PromptRow:
        yield PromptRow(prompt, origin)
    elif len(rated) < 2:
        yield Unused("prompt with a single rated response")
    elif len(set(texts)) == 1:
        raise BadRowError("identical responses")
    else:
        yield from ranking_or_tie(prompt, texts, [-score for score in scores], origin, kind)


def _ultrafeedback(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Responses of several models, ranked by ``overall_score`` (Cui et al. 2023)."""
    completions = structured(record["completions"])
    if not isinstance(completions, list) or not all(isinstance(completion, Mapping) for completion in completions):
        raise BadRowError("completions is not a list of objects")
    texts = [text_in(completion, "response") for completion in completions]
    scores = [number(completion.get("overall_score"), "overall_score") for completion in completions]
    prompt = (Message("user", text_in(record, "instruction", "prompt").strip()),)
    yield from ranking_or_tie(prompt, texts, [-score for score in scores], origin, kind)


def _has_scores(record: Record) -> bool:
    completions = structured(record["completions"])
    return (
        isinstance(completions, list)
        and bool(completions)
        and all(isinstance(completion, Mapping) and "overall_score" in completion for completion in completions)
    )


FORMATS = (
    Format(
        "helpsteer",
        ("prompt", "response", "helpfulness"),
        _KINDS,
        _helpsteer,
        ignores=("correctness", "coherence", "complexity", "verbosity"),
        group=_gather_responses,
        judgement=("helpfulness",),
        unordered=True,
        ties="kept; a tie of all gives no row",
        labels="higher is better",
    ),
    Format(
        "ultrafeedback",
        ("instruction", "completions"),
        _KINDS,
        _ultrafeedback,
        ignores=("models", "correct_answers", "incorrect_answers"),
        matches=_has_scores,
        recognized_by="`instruction` and `completions` with `overall_score`",
        judgement=("completions",),
        unordered=True,
        ties="kept; a tie of all gives no row",
        labels="a higher `overall_score` is better",
    ),
)
