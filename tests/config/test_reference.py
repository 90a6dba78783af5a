"""The committed configuration page agrees with the schema."""

import re
from pathlib import Path

from plaudit.config.places import sections_below
from plaudit.config.reference import reference
from plaudit.config.schema import Recipe, Section

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "write it again with: make docs"


def test_every_key_of_every_section_has_a_row_with_a_meaning() -> None:
    text = reference()
    sections: set[type[Section]] = {section for _, section in sections_below(Recipe)}
    for section in sections | {Recipe}:
        for key in section.model_fields:
            assert re.search(rf"^\| `{key}` \| .+ \| .+ \| .+ \|$", text, re.MULTILINE), (section, key)
    assert "None" not in text


def test_links_lead_to_headings() -> None:
    text = reference()
    headings = {heading.lower() for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_rows_of_each_kind() -> None:
    text = reference()
    assert "| `learning_rate` | a number at least 0 | `1e-05` | peak learning rate |" in text
    assert "| `value_clip` | a number above 0 or null | `0.2` |" in text
    assert "| `value_model` | a string | - |" in text
    assert "| `normalize` | true or false | `true` |" in text
    assert "| `models` | a mapping from names to [Model](#model) (at least 1) | **required** |" in text
