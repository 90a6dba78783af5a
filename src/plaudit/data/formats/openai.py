"""OpenAI's published labels: lm-human-preferences, and the Reddit TL;DR summaries of summarize_from_feedback."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from plaudit.data.formats.base import BadRowError, Format, Kind, Record, has_value, ranking, text_in
from plaudit.data.formats.values import structured, whole_number
from plaudit.data.rows import LabeledRow, Origin, PromptRow, RankingRow, ResponseRow, Row
from plaudit.errors import PlauditError
from plaudit.hub import hub_options
from plaudit.log import quiet_libraries

Decode = Callable[[list[int]], str]

# Ids from here on are not GPT-2 tokens: the published labels are padded with 50259.
_GPT2_VOCABULARY = 50257
_MOST_SAMPLES = 16
_SAMPLE_COLUMNS = tuple(f"sample{index}" for index in range(_MOST_SAMPLES))
_TEXT_COLUMNS = ("query", *_SAMPLE_COLUMNS)


def _lm_human_preferences(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    """Best of K (Ziegler et al. 2019): the best response has rank 0, the others are tied."""
    record = _decoded(record)
    samples = [text_in(record, column, "response") for column in _SAMPLE_COLUMNS if has_value(record.get(column))]
    best = whole_number(record.get("best"), "best")
    if not 0 <= best < len(samples):
        raise BadRowError("best is not the index of a sample")
    ranks = [int(index != best) for index in range(len(samples))]
    yield ranking(text_in(record, "query", "prompt"), samples, ranks, origin)


def _decoded(record: Record) -> Record:
    """Return the record with GPT-2's text for the columns that hold lists of its token ids."""
    lists = {column: ids for column in _TEXT_COLUMNS if isinstance(ids := structured(record.get(column)), list)}
    if not lists:
        return record
    words = {column: _word_ids(ids, column) for column, ids in lists.items()}
    decode = gpt2_decoder()
    return {**record, **{column: decode(ids) for column, ids in words.items()}}


def _word_ids(ids: list[int], column: str) -> list[int]:
    if not all(isinstance(token, int) and token >= 0 for token in ids):
        raise BadRowError(f"{column} is neither text nor a list of token ids")
    return [token for token in ids if token < _GPT2_VOCABULARY]


@lru_cache(maxsize=1)
def gpt2_decoder() -> Decode:
    """Return a function from GPT-2 token ids to text; raises PlauditError if the tokenizer cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained("gpt2", **hub_options("gpt2"))
    except (OSError, ValueError, PlauditError) as error:
        raise PlauditError(
            "rows with GPT-2 token ids need the hub tokenizer gpt2, which could not be loaded; "
            "connect to the network once, or store text instead of token ids in the rows"
        ) from error
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def _summarize_from_feedback(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    """Compared summaries (Stiennon et al. 2020); ``choice`` is the better one."""
    info, summaries = structured(record["info"]), structured(record["summaries"])
    objects = [info, *summaries] if isinstance(summaries, list) else [None]
    if not all(isinstance(value, Mapping) for value in objects):
        raise BadRowError("info or summaries does not have the structure of summarize_from_feedback")
    texts = [_summary(text_in(summary, "text", "response")) for summary in summaries]
    choice = whole_number(record.get("choice"), "choice")
    if not 0 <= choice < len(texts):
        raise BadRowError("choice is not the index of a summary")
    yield ranking(_tldr_prompt(info), texts, [int(index != choice) for index in range(len(texts))], origin)


def _tldr(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield ResponseRow(_tldr_prompt(record), _summary(text_in(record, "summary", "response")), origin)


def _tldr_prompt(post: Record) -> str:
    """The prompt of Stiennon et al. 2020, table of appendix B; news articles have no subreddit."""
    if not has_value(post.get("post")):
        return f"Article:\n{text_in(post, 'article', 'prompt')}\n\nTL;DR:"
    subreddit, title = post.get("subreddit") or "", post.get("title") or ""
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {text_in(post, 'post', 'prompt')}\n\nTL;DR:"


def _summary(text: str) -> str:
    return " " + text.strip()


FORMATS = (
    Format(
        "lm_human_preferences",
        ("query", "sample0", "sample1", "best"),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _lm_human_preferences,
        also_reads=_SAMPLE_COLUMNS[2:],
        judgement=("best",),
        unordered=True,
        ties="all but the best are tied",
        labels="the number of the best sample, from 0",
    ),
    Format(
        "summarize_from_feedback",
        ("info", "summaries", "choice"),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _summarize_from_feedback,
        judgement=("choice",),
        unordered=True,
        ties="all but the best are tied",
        labels="the number of the best summary, from 0",
    ),
    Format("tldr", ("post", "summary"), (ResponseRow, PromptRow), _tldr, also_reads=("subreddit", "title")),
)
