"""Reading the Markdown pages in docs/: links, headings, tables, and examples with their output."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ALGORITHMS = DOCS / "algorithms"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])

LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"`([A-Za-z_][\w.]*)`")


@dataclass(frozen=True)
class Link:
    """A link of a page: its text, the file it leads to, and the heading in it (empty: none)."""

    text: str
    target: Path
    heading: str

    @property
    def name(self) -> str | None:
        """The function or class that a link to a source file names."""
        found = NAME.fullmatch(self.text)
        return found[1] if found and self.target.suffix == ".py" else None


@dataclass(frozen=True)
class Example:
    """A block of code, and the output that the page shows (None: it shows none)."""

    line: int
    code: str
    output: str | None


def links(page: Path) -> Iterator[Link]:
    """Yield the links of a page that stay within the project."""
    for text, address in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" not in address and not address.startswith("mailto:"):
            path, _, heading = address.partition("#")
            yield Link(text, (page.parent / path).resolve() if path else page, heading)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as on GitHub."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined(source: Path) -> set[str]:
    """Return the names that a source file defines: functions, classes, ``Class.method`` and assigned names."""
    names: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def examples(page: Path) -> list[Example]:
    """Return the Python blocks of a page; a ``text`` block directly after one holds its output."""
    text, found = page.read_text(), []
    blocks = list(FENCED.finditer(text))
    for block, following in zip(blocks, [*blocks[1:], None], strict=False):
        if block[1] != "python":
            continue
        adjacent = (
            following is not None and following[1] == "text" and not text[block.end() : following.start()].strip()
        )
        line = text[: block.start()].count("\n") + 2
        found.append(Example(line, block[2], following[2] if following is not None and adjacent else None))
    return found


def table_rows(page: Path) -> list[list[str]]:
    """Return the cells of all table rows of a page, without the markup of links."""
    rows = [line for line in FENCED.sub("", page.read_text()).splitlines() if line.startswith("|")]
    return [[LINK.sub(r"\1", cell).strip() for cell in row.strip("|").split("|")] for row in rows]
