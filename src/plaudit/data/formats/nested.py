"""Keys in the objects and lists that a column holds. Their names are dotted: ``metadata.label``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from plaudit.data.formats.base import Format, Kind, Record, has_value
from plaudit.data.formats.columns import carries_meaning, judges
from plaudit.data.formats.dialogues import READ_JUDGEMENTS, is_message
from plaudit.data.formats.values import structured
from plaudit.data.rows import PromptRow

_WORDS_OF_A_SENTENCE = 3


def unread_values(known: Format, record: Record, kind: Kind | None) -> dict[str, Any]:
    """Return the columns of a record that a format does not read, with their values.

    Keys with a meaning for rows of a kind are added, however deeply they are nested in columns without one, unless
    their text is a copy of what the format reads. So are keys of messages that look like a judgement.
    """
    found: dict[str, Any] = {}
    for column in known.unread(record):
        found[column] = value = record[column]
        if isinstance(value, str | list | tuple | Mapping) and not carries_meaning(column, kind):
            for name, inner in _keys_with_meaning(column, value, kind):
                if name not in found and not _is_read(inner, known, record):
                    found[name] = inner
    if kind is not PromptRow:
        for column, value in record.items():
            if column not in found:
                turns = _parsed(value)
                found.update(_judgements_of_messages(column, turns if isinstance(turns, list | tuple) else (turns,)))
    return found


def _judgements_of_messages(column: str, turns: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of messages that look like a judgement and that no format reads, with their values."""
    for turn in turns:
        if is_message(turn):
            for key, value in turn.items():
                if isinstance(key, str) and key not in READ_JUDGEMENTS and judges(key) and has_value(value):
                    yield f"{column}.{key}", value


def _keys_with_meaning(column: str, value: Any, kind: Kind | None) -> Iterator[tuple[str, Any]]:
    """Yield the nested keys with a meaning and their values; those within them are left out."""
    left = [(column, value)]
    while left:
        name, value = left.pop()
        value = _parsed(value)
        if isinstance(value, list | tuple):
            left += [(name, each) for each in value]
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                if isinstance(key, str) and has_value(inner):
                    inside = f"{name}.{key}"
                    if carries_meaning(key, kind):
                        yield inside, inner
                    else:
                        left.append((inside, inner))


def _is_read(value: Any, known: Format, record: Record) -> bool:
    """Return whether a text is also in a column that a format reads: as a whole or, if it is a sentence, in a text."""
    if not isinstance(value, str):
        return False
    wanted = value.strip()
    is_sentence = len(wanted.split()) >= _WORDS_OF_A_SENTENCE
    left: list[Any] = [record[column] for column in record.keys() - known.others(record)]
    while left:
        each = left.pop()
        if isinstance(each, str) and (wanted == each.strip() or (is_sentence and wanted in each)):
            return True
        if isinstance(each, list | tuple):
            left += each
        elif isinstance(each, Mapping):
            left += each.values()
    return False


def _parsed(value: Any) -> Any:
    """Return the object or list of objects in a text, and any other value unchanged."""
    if isinstance(value, str) and value[:1] in ("{", "[") and value[-1:] in ("}", "]") and "{" in value:
        return structured(value)
    return value


class IgnoredColumns:
    """The columns, or keys nested in them, that formats do not see. ``not_found``: those in no record so far."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self.not_found = set(self._names)

    def without(self, record: Record) -> Record:
        """Return a record without the ignored columns and keys."""
        return dict(self._left("", record)) if self._names else record

    def _left(self, prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name in self._names:
                self.not_found.discard(name)
            else:
                yield key, self._inside(f"{name}.", value)

    def _inside(self, prefix: str, value: Any) -> Any:
        if not any(name.startswith(prefix) for name in self._names):
            return value
        value = _parsed(value)
        if isinstance(value, list | tuple):
            return [self._inside(prefix, each) for each in value]
        return dict(self._left(prefix, value)) if isinstance(value, Mapping) else value
