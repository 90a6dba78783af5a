"""Refuses to resume a run with another configuration, except for changes that cannot affect existing results."""

import json
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from plaudit.config.load import load_recipe
from plaudit.config.places import dotted, may_change
from plaudit.config.schema import Recipe
from plaudit.config.schema.base import Place
from plaudit.config.secrets import mask_addresses
from plaudit.errors import PlauditError
from plaudit.plugins import given_name, has_other_code, is_same_function
from plaudit.registries.stages import STAGES, restart_command

logger = logging.getLogger(__name__)

SHOWN_DIFFERENCES = 8


def refuse_changes(configuration: Path, new: Recipe, begun: Collection[str]) -> None:
    """Raise PlauditError, with the differences, if ``new`` changes what the results of the ``begun`` stages depend on.

    ``configuration`` is the file with the run's recipe so far.
    """
    earlier, now = load_recipe(str(configuration)).model_dump(mode="json"), new.model_dump(mode="json")
    earlier, now = mask_addresses(earlier, distinct=True), mask_addresses(now, distinct=True)  # as they were written
    changed = []
    for place, before, after in differences(earlier, now):
        if not begun or _may_change(place, earlier, now, begun):
            continue
        if not is_same_function(before, after):
            changed.append((dotted(place), before, after))
        elif has_other_code(before, after):
            logger.warning(
                "%s: the code or the values of %s changed since the run began; if that changes its results, choose "
                "another name for the run",
                dotted(place),
                given_name(after),
            )
    if changed:
        shown = [f"{key}: {_short(before)} -> {_short(after)}" for key, before, after in changed]
        more = [f"and {len(shown) - SHOWN_DIFFERENCES} more"] if len(shown) > SHOWN_DIFFERENCES else []
        sections = {key.partition(".")[0] for key, _, _ in changed}
        kept = {section for section in sections if getattr(new, section, None) is not None}
        raise PlauditError(
            f"{configuration}: {'; '.join(shown[:SHOWN_DIFFERENCES] + more)}: changed since the run began; "
            f"undo the change, {_remedy(sections, kept)}"
        )


def differences(old: Any, new: Any, place: Place = ()) -> Iterator[tuple[Place, Any, Any]]:
    """Yield place, old value and new value of every difference between two nested configurations."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            yield from differences(old.get(name), new.get(name), (*place, name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, (*place, index))
    elif old != new:
        yield place, old, new


def _may_change(place: Place, earlier: Any, now: Any, begun: Collection[str]) -> bool:
    """Whether a key may change: no result depends on it, or its stage has not begun.

    If the kind of a section changes, a key may exist in only one of the two recipes, in plain values.
    """
    return may_change(place, now) or may_change(place, earlier) or (place[0] in STAGES and place[0] not in begun)


def _remedy(changed: Collection[str], kept: Collection[str]) -> str:
    """Return what a user can do to keep these changes without deleting results that are still valid."""
    another = "choose another name for the run"
    if len(changed) == 1 and set(changed) <= {*kept} & {*STAGES}:
        stage = next(iter(changed))
        return f"{another}, or repeat {stage} with: {restart_command(stage)}"
    return f"or {another}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
