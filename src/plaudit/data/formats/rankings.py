"""Several responses to a prompt with human ranks (0 is best) or scores (higher is better)."""

from collections.abc import Iterator, Sequence

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, prompt_in, ranking
from plaudit.data.rows import LabelledRow, Origin, PromptRow, RankingRow, ResponseRow, Row


def _ranked_responses(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    responses = record.get("responses")
    if not isinstance(responses, list | tuple) or not all(isinstance(response, str) for response in responses):
        raise BadRowError("responses is not a list of strings")
    if record.get("ranks") is not None:
        ranks = _numbers(record["ranks"], "ranks")
    else:
        ranks = [-score for score in _numbers(record.get("scores"), "scores")]
    yield ranking(prompt_in(record), responses, ranks, origin)


def _numbers(values: object, column: str) -> Sequence[float]:
    if not isinstance(values, list | tuple):
        raise BadRowError(f"{column} is not a list of numbers")
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
            raise BadRowError(f"{column} is not a list of numbers")
    return values


FORMATS = (
    Format(
        "ranked_responses",
        ("prompt", "responses"),
        (RankingRow, LabelledRow, ResponseRow, PromptRow),
        _ranked_responses,
        also_reads=("ranks", "scores"),
        matches=lambda record: record.get("ranks") is not None or record.get("scores") is not None,
    ),
)
