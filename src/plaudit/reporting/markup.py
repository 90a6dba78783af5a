"""HTML by plain functions. Whatever is not made here is text, and is escaped."""

from collections.abc import Iterable
from html import escape

VOID = frozenset({"meta", "br"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Html | str | None


def tag(name: str, /, *children: Child, **attributes: str | None) -> Html:
    """An element. Children that are plain text are escaped; None is left out, among attributes too.

    Underscores in attribute names become hyphens, and one at the end is dropped (``class_``).
    """
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    opening = "".join([name, *(f' {key}="{escape(value)}"' for key, value in pairs)])
    if name in VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Several pieces in a row."""
    pieces = (child for child in children if child is not None)
    return Html("".join(piece if isinstance(piece, Html) else escape(piece) for piece in pieces))


def definitions(pairs: Iterable[tuple[str, Child]], class_: str) -> Html:
    """A list of terms with their values."""
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs), class_=class_)


def details(summary: str, *children: Child) -> Html:
    """A part that opens on request."""
    return tag("details", tag("summary", summary), *children)


def scrolling(table: Html, label: str) -> Html:
    """A table that scrolls sideways where the page is too narrow for it, by keyboard too."""
    return tag("div", table, class_="scrolling", role="region", aria_label=label, tabindex="0")
