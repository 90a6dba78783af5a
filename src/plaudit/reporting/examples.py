"""Texts: the responses of the models side by side, and how responses changed during training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.reporting.logs import is_number
from plaudit.reporting.numbers import fixed
from plaudit.reporting.reading import Run, StageFiles
from plaudit.reporting.tables import judging_source

SHOWN_AT_ONCE = 6

Scores = list[tuple[str, str]]


@dataclass(frozen=True)
class Response:
    """One model's response. ``best``: no other model's response has a higher score from the judging source."""

    model: str
    text: str
    scores: Scores
    best: bool


@dataclass(frozen=True)
class Sample:
    """A prompt with every model's response."""

    prompt: str
    responses: list[Response]


@dataclass(frozen=True)
class Moment:
    """The response at one training step."""

    step: int
    text: str
    scores: Scores


@dataclass(frozen=True)
class Progress:
    """A prompt with its responses during training, from the first step to the last."""

    prompt: str
    moments: list[Moment]


def samples(run: Run) -> Mapping[str, Any] | None:
    """Each prompt with every model's response and its scores."""
    found = run.summary.get("samples") or []
    if not found:
        return None
    judge = judging_source(run.summary, run.trained_on)
    cards = [_sample(sample, judge) for sample in found]
    return {
        "judge": judge,
        "simulated": run.simulated,
        "shown": cards[:SHOWN_AT_ONCE],
        "more": cards[SHOWN_AT_ONCE:],
    }


def _sample(sample: Mapping[str, Any], judge: str | None) -> Sample:
    responses = sample["responses"]
    judged = [response.get("scores", {}).get(judge) for response in responses.values()]
    known = [score for score in judged if is_number(score)]
    best = max(known) if len(set(known)) > 1 else None
    shown = [
        Response(name, response["text"].strip(), _scores(response), best is not None and score == best)
        for (name, response), score in zip(responses.items(), judged, strict=True)
    ]
    return Sample(sample["prompt"], shown)


def _scores(row: Mapping[str, Any]) -> Scores:
    return [(name, fixed(score, 2)) for name, score in (row.get("scores") or {}).items() if is_number(score)]


def training_samples(stage: StageFiles) -> list[Progress]:
    """Responses to the prompts that were sampled most often, from the first step to the last."""
    return [_progress(samples) for samples in stage.samples]


def _progress(samples: Sequence[Mapping[str, Any]]) -> Progress:
    moments = [Moment(sample["step"], sample["response"].strip(), _scores(sample)) for sample in samples]
    return Progress(samples[0]["prompt"], moments)
