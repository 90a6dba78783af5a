"""All kinds of rows, by the names in configurations and commands."""

from plaudit.data.rows.base import Row
from plaudit.data.rows.labeled import LabeledRow
from plaudit.data.rows.prompt import PromptRow
from plaudit.data.rows.ranking import RankingRow
from plaudit.data.rows.response import ResponseRow
from plaudit.data.rows.text import TextRow
from plaudit.registry import Registry

ROW_KINDS: Registry[type[Row]] = Registry(
    "row kind",
    {row_kind.kind: row_kind for row_kind in (TextRow, ResponseRow, RankingRow, LabeledRow, PromptRow)},
)
