"""Generates texts for all prompts of a file, in batches, and keeps the best of several candidates."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from plaudit.config.schema import GenerationConfig
from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.runs.progress import StageProgress
from plaudit.serving.files import ScannedFile
from plaudit.serving.policy import Generation, Policy
from plaudit.serving.prompts import as_plain_data
from plaudit.serving.reward import Reward

TEXTS_AT_ONCE = 512
"""Texts that are held in memory; the engine sorts them by length and generates them in smaller batches."""


def generate_file(
    policy: Policy,
    prompts: ScannedFile[PromptRow],
    write: Callable[[Any], None],
    settings: GenerationConfig,
    n: int = 1,
    best_of: int | None = None,
    reward: Reward | None = None,
    seed: int = 0,
) -> None:
    """Call ``write`` with a row for each text: ``prompt``, ``response``, ``ended``, with a reward also ``score``.

    The other columns of a prompt are in ``fields``. With ``best_of``, that many candidates are drawn for each prompt,
    and the ``n`` with the highest scores are written, the best first.
    """
    if best_of is not None and reward is None:
        raise PlauditError("--best-of needs a reward to score the candidates; name one with --reward")
    if best_of is not None and best_of < n:
        raise PlauditError(f"--best-of {best_of} is less than the {n} texts to keep; raise it, or lower -n")
    drawn = best_of or n
    seen: Counter[int] = Counter()
    done = 0
    with StageProgress("generate", prompts.rows) as progress:
        for batch in prompts.batches(max(1, TEXTS_AT_ONCE // drawn)):
            rows = [row for row, _ in batch]
            texts = policy.generate_rows(rows, drawn, settings, seed, seen)
            scores = _scores(reward, rows, texts) if reward is not None else None
            for number, row in enumerate(rows):
                for line in _lines(row, texts[number], None if scores is None else scores[number], best_of and n):
                    write(line)
            done += len(rows)
            progress.update(done, f"{done * n} texts")


def _scores(reward: Reward, rows: Sequence[PromptRow], texts: Sequence[Sequence[Generation]]) -> list[list[float]]:
    repeated = [row for row, own in zip(rows, texts, strict=True) for _ in own]
    scores = reward.score_samples(reward.samples(repeated, [text for own in texts for text in own]))
    return [[float(score) for score in own] for own in scores.reshape(len(rows), -1)]


def _lines(
    row: PromptRow, texts: Sequence[Generation], scores: Sequence[float] | None, best: int | None
) -> list[dict[str, Any]]:
    order = range(len(texts))
    if best is not None and scores is not None:
        order = sorted(order, key=lambda number: -scores[number])[:best]  # type: ignore[assignment]
    fields = {"fields": dict(row.fields)} if row.fields else {}
    return [
        {"prompt": as_plain_data(row.prompt), "response": texts[number].text, "ended": texts[number].ended}
        | ({} if scores is None else {"score": scores[number]})
        | fields
        for number in order
    ]
