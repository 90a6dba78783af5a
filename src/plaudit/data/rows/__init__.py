"""The kinds of rows into which all formats are converted: one file per kind; ``registry`` lists them."""

from plaudit.data.rows.base import Origin, Prompt, Row
from plaudit.data.rows.labeled import LabeledRow
from plaudit.data.rows.messages import Message, ToolCall
from plaudit.data.rows.prompt import PromptRow
from plaudit.data.rows.ranking import RankingRow
from plaudit.data.rows.response import ResponseRow
from plaudit.data.rows.text import TextRow

__all__ = [
    "LabeledRow",
    "Message",
    "Origin",
    "Prompt",
    "PromptRow",
    "RankingRow",
    "ResponseRow",
    "Row",
    "TextRow",
    "ToolCall",
]
