"""Registries, which implement all extension points: named entries to which other packages can add.

An entry may be given as ``"module:attribute"``. It is then imported on first access, so that listing names imports
nothing heavy.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Generic, TypeVar, cast

from plaudit.errors import PlauditError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name, in the order in which they were added.

    Args:
        what: the kind of entry in the singular, for messages, such as ``"reward kind"``.
        entries: the built-in entries.
    """

    def __init__(self, what: str, entries: "Mapping[str, Entry | str] | None" = None) -> None:
        self.what = what
        self._entries: dict[str, Entry | str] = dict(entries or {})

    def register(self, name: str, entry: "Entry | str", before: str | None = None) -> None:
        """Add an entry, or ``"module:attribute"`` to import it from, at the end or before another entry.

        Raises PlauditError if the name is in use for another entry, or ``before`` is unknown.
        """
        if self._entries.get(name, entry) != entry:
            raise PlauditError(f"{name}: a {self.what} with this name is already registered; choose another name")
        if before is not None and name not in self._entries:
            self._refuse_unknown(before)
            names = list(self._entries)
            later = {following: self._entries.pop(following) for following in names[names.index(before) :]}
            self._entries |= {name: entry, **later}
        self._entries[name] = entry

    def _refuse_unknown(self, name: str) -> None:
        if name not in self._entries:
            near = get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise PlauditError(f"{name}: unknown {self.what}; {hint}choose from {', '.join(self._entries)}")

    def unregister(self, name: str) -> None:
        """Remove an entry."""
        del self._entries[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of this name.

        Raises PlauditError, with the known names, for an unknown name, and if the entry cannot be imported.
        """
        self._refuse_unknown(name)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            try:
                imported = cast(Entry, getattr(import_module(module), attribute))
            except (ImportError, AttributeError) as error:
                raise PlauditError(f"{self.what} {name}: cannot import {entry}: {error}") from error
            self._entries[name] = entry = imported
        return entry
