"""All row formats; ``recognition`` finds the one of a file."""

from plaudit.data.formats import (
    argilla,
    comparisons,
    conversations,
    dialoconan,
    helpsteer,
    hh_rlhf,
    instructions,
    label_studio,
    labeled,
    open_assistant,
    openai,
    plain,
    preferences,
    rankings,
    ratings,
    real_toxicity_prompts,
    responses,
    segments,
    votes,
)
from plaudit.data.formats.base import Format
from plaudit.registry import Registry

FORMATS: Registry[Format] = Registry(
    "row format",
    {
        row_format.name: row_format
        for family in (
            plain,
            responses,
            instructions,
            segments,
            conversations,
            labeled,
            preferences,
            hh_rlhf,
            rankings,
            ratings,
            comparisons,
            votes,
            helpsteer,
            openai,
            open_assistant,
            argilla,
            label_studio,
            real_toxicity_prompts,
            dialoconan,
        )
        for row_format in family.FORMATS
    },
)
