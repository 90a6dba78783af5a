"""What the names of columns say: which of them look like a judgement, and which like a part of the prompt."""

import re
from collections.abc import Callable
from functools import lru_cache

from plaudit.data.formats.base import Kind
from plaudit.data.rows import PromptRow

_JUDGEMENT_WORDS = {
    "label", "labels", "score", "scores", "rating", "ratings", "reward", "rewards", "rank", "ranks", "ranking",
    "preference", "preferences", "preferred", "winner", "vote", "votes", "verdict", "judgement", "judgment", "grade",
    "safe", "helpfulness", "harmlessness", "correctness", "quality", "toxicity", "thumbs", "liked", "desirable",
    "better", "best", "chosen", "rejected", "accepted", "correct", "kto", "good", "bad", "unsafe", "toxic", "harmful",
    "helpful", "harmless", "honesty", "stars", "feedback", "annotation", "annotations", "upvotes", "downvotes",
    "sentiment", "wins", "keep", "ok", "selected", "reject", "refusal", "outcome", "polarity", "hallucinated",
    "hallucination", "mask", "agree", "agrees",
    "worse", "worst", "wrong", "incorrect", "positive", "negative", "flagged", "passed", "failed",
    "approved", "deleted", "removed", "spam", "offensive", "weight", "weights", "status", "decision", "approval",
    "pass", "fail", "success", "valid", "invalid", "acceptable", "unacceptable", "assessment", "points",
    "flag", "flags", "eval", "likes", "dislikes", "karma", "elo", "win", "hate", "abusive", "nsfw", "severity",
}  # fmt: skip
_CONTEXT_NAMES = {
    "system", "context", "history", "image", "images", "audio", "audios", "video", "videos", "tools", "functions",
    "tool_calls", "conversation", "conversations", "messages", "dialog", "dialogue", "instruction", "question", "query",
    "prompt", "input", "trajectory", "passage",
    "document", "documents", "article", "persona", "background", "choices", "options", "a", "b", "c", "d",
}  # fmt: skip
_RESPONSE_NAMES = {
    "response", "responses", "completion", "completions", "output", "outputs", "answer", "answers", "generations",
    "generation", "reply", "replies", "continuation", "corrected", "correction",
}  # fmt: skip
_CONTEXT_ENDINGS = {"prompt", "instruction", "question", "query", "context", "history", "system", "conversation"}
_SIDES = {"a", "b", "c", "d", "left", "right", "first", "second", *map(str, range(10))}
# A column such as chosen_model or score_source describes a judgement, but is none.
_DESCRIBING = {
    "model", "models", "id", "ids", "source", "time", "date", "sha256", "tokens", "length", "count", "type", "category",
    "name", "policy", "path", "url", "version", "ratio", "order", "code", "confidence",
}  # fmt: skip


def judges(column: str) -> bool:
    """Return whether a column's name suggests a judgement of responses, such as ``label`` or ``is_safe``."""
    found = words(column)
    return bool(found) and found[-1] not in _DESCRIBING and any(word in _JUDGEMENT_WORDS for word in found)


def belongs_to_prompt(column: str) -> bool:
    """Return whether a column's name suggests a part of the prompt, such as ``system`` or ``images``."""
    found = words(column)
    if len(found) > 1 and found[-1].isdigit():  # pandas calls a second column "prompt" "prompt.1"
        found.pop()
    return "_".join(found) in _CONTEXT_NAMES or (len(found) > 1 and found[-1] in _CONTEXT_ENDINGS)


def answers(column: str) -> bool:
    """Return whether a column's name suggests a response, such as ``answer`` or ``response_b``."""
    found = words(re.sub(r"(?<=[a-z])(?=[0-9]+$)", "_", column))
    return "_".join(found) in _RESPONSE_NAMES or (
        len(found) == 2 and found[0] in _RESPONSE_NAMES and found[1] in _SIDES
    )


@lru_cache(maxsize=4096)
def carries_meaning(column: str, kind: Kind | None) -> bool:
    """Return whether rows of a kind change their meaning if a column of this name is not read.

    Prompts carry their other columns along, as ``fields``, so a judgement or a response is not lost there. Of a dotted
    name, such as ``metadata.label``, the part after the last dot may say what it is.
    """
    return _says(belongs_to_prompt, column) or (
        kind is not PromptRow and (_says(judges, column) or _says(answers, column))
    )


def looks_like(column: str) -> str:
    """Return what the name of a column with meaning says it is, for messages."""
    if _says(belongs_to_prompt, column):
        return "a part of the prompt"
    return "a response" if _says(answers, column) else "a judgement"


def _says(what: Callable[[str], bool], column: str) -> bool:
    return what(column) or ("." in column and what(column.rpartition(".")[2]))


def words(column: str) -> list[str]:
    """Return the words of a name in snake_case, kebab-case, camelCase or with spaces."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
