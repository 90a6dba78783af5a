"""The folder of a run: files, checkpoints, metrics and metadata, and the session that writes them."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.runs.context import StageContext, stage_context
    from plaudit.runs.directory import RunDirectory, StageDirectory
    from plaudit.runs.jsonl import JsonLinesWriter, read_json_lines
    from plaudit.runs.session import Session, start_session

__all__ = [
    "JsonLinesWriter",
    "RunDirectory",
    "Session",
    "StageContext",
    "StageDirectory",
    "read_json_lines",
    "stage_context",
    "start_session",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "context": ["StageContext", "stage_context"],
        "directory": ["RunDirectory", "StageDirectory"],
        "jsonl": ["JsonLinesWriter", "read_json_lines"],
        "session": ["Session", "start_session"],
    },
)
