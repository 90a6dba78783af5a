"""Generates the configuration reference from the schema: ``python -m plaudit.config.reference [FILE]``."""

import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from plaudit.config.places import dotted, field_type, sections_below, sections_in
from plaudit.config.schema import Recipe, Section
from plaudit.config.schema.base import MAY_CHANGE, has_mark
from plaudit.config.words import in_words

PAGE = Path("docs/configuration.md")
NOT_SET = "-"
WIDTH = 120

_START = """# Configuration

Every key of a recipe, with its type and default. `plaudit recipes` lists the recipes that come with the package, and
`plaudit recipes NAME` prints one; see [Getting started](getting-started.md) for how to use them.

Unknown keys, wrong types and keys given twice are errors. So are keys that have no effect because of other keys, such
as `rl.value_clip` without a value function.

To replace a value on the command line, give its dotted path; list entries count from 0:

    plaudit run quickstart seed=1 rl.kl.coefficient=0.1 rl.rewards.0.weight=2 'evaluate.best_of=[1, 4]'

The values are YAML. `null` switches off an optional setting or removes a whole stage. For any other key, `KEY=null` on
the command line restores the default.

A run resumes only with the configuration it was started with. Only keys marked "may change" may differ: they change
results at most by rounding or, where `dropout` is above 0, by the random choice of what is dropped.

`stage:NAME` in place of a model or a file means the model of an earlier stage of the same run, and `stage:NAME/FILE` a
file in that stage's folder. Instead of a section, a model or a data source may be a plain string,
its `path`.

This page is generated from `src/plaudit/config/schema/` by `make docs`.
"""


def reference() -> str:
    """Return the page: a table per section of the schema, in the order of the recipe."""
    order: dict[type[Section], None] = {Recipe: None} | {section: None for _, section in sections_below(Recipe)}
    return "\n".join([_START, *(_section(section, order) for section in order)])


def _section(section: type[Section], all_sections: Iterable[type[Section]]) -> str:
    uses = [
        f"`{dotted(place)}` of {_link(parent)}"
        for parent in all_sections
        for place, inner in sections_in(parent)
        if inner is section
    ]
    lines = [
        f"## {_title(section)}",
        "",
        (section.__doc__ or "").replace("``", "`").strip(),
        "",
        *([textwrap.fill(f"Used as {', '.join(uses)}.", WIDTH, break_on_hyphens=False), ""] if uses else []),
        "| key | value | default | meaning |",
        "|---|---|---|---|",
        *(_row(key, field) for key, field in section.model_fields.items()),
        "",
    ]
    return "\n".join(lines)


def _title(section: type[Section]) -> str:
    return section.__name__.removesuffix("Config")


def _link(section: type[Section]) -> str:
    return f"[{_title(section)}](#{_title(section).lower()})"


def _row(key: str, field: FieldInfo) -> str:
    value, default = in_words(field_type(field), _link), _default(field)
    if default == NOT_SET:
        value = value.removesuffix(" or null")
    note = " (may change)" if has_mark(field, MAY_CHANGE) else ""
    return f"| `{key}` | {value} | {default} | {field.description}{note} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    if default in (None, [], {}, ""):
        return NOT_SET
    if isinstance(default, Section):
        return "its defaults"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(reference(), encoding="utf-8")
