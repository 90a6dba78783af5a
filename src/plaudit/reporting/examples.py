"""Texts: the responses of the models side by side, and how responses changed as training went."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from plaudit.reporting.markup import Html, definitions, details, join, tag
from plaudit.reporting.numbers import fixed
from plaudit.reporting.reading import Run, Stage, is_number
from plaudit.reporting.tables import judging_source

SHOWN_AT_ONCE = 6
PROMPTS_IN_TRAINING = 3
STEPS_IN_TRAINING = 5


def samples(run: Run) -> Html | None:
    """Each prompt with every model's response and its scores."""
    found = run.summary.get("samples") or []
    if not found:
        return None
    judge = judging_source(run.summary, run.trained_on)
    cards = [_sample(sample, judge) for sample in found]
    words = f"Held-out prompts, one response of each model. ● marks the response that {judge} scores highest."
    if run.simulated:
        words = f"{words} The texts are made by code, and the annotators are simulated."
    more = cards[SHOWN_AT_ONCE:]
    rest = details(f"{len(more)} more", *more) if more else None
    return join([tag("p", words, class_="caption"), *cards[:SHOWN_AT_ONCE], rest])


def _sample(sample: Mapping[str, Any], judge: str | None) -> Html:
    responses = sample["responses"]
    judged = [response.get("scores", {}).get(judge) for response in responses.values()]
    known = [score for score in judged if is_number(score)]
    best = max(known) if len(set(known)) > 1 else None
    columns = [
        _response(name, response, best is not None and score == best)
        for (name, response), score in zip(responses.items(), judged, strict=True)
    ]
    prompt = tag("div", tag("h3", "Prompt"), tag("p", sample["prompt"], class_="text"), class_="prompt")
    return tag("article", prompt, tag("div", *columns, class_="responses"), class_="sample")


def _response(name: str, response: Mapping[str, Any], best: bool) -> Html:
    mark = tag("span", "●", class_="mark", role="img", aria_label="highest score") if best else None
    text = response["text"].strip()
    shown = tag("p", text, class_="text") if text else tag("p", "(empty response)", class_="text empty")
    return tag("div", tag("h3", mark, name), shown, _scores(response.get("scores") or {}), class_="response")


def _scores(scores: Mapping[str, Any]) -> Html | None:
    pairs = [(name, fixed(score, 2)) for name, score in scores.items() if is_number(score)]
    return definitions(pairs, "scores") if pairs else None


def training_samples(stage: Stage) -> Html | None:
    """Responses to the prompts that were sampled most often, from the first step to the last."""
    by_prompt: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(stage.samples, key=lambda row: row["step"]):
        by_prompt[row["prompt"]].append(row)
    often = sorted(by_prompt.values(), key=len, reverse=True)[:PROMPTS_IN_TRAINING]
    if not often:
        return None
    return details("Responses as training went", *(_progress(rows) for rows in often))


def _progress(rows: list[dict[str, Any]]) -> Html:
    last = len(rows) - 1
    count = min(len(rows), STEPS_IN_TRAINING)
    chosen = [rows[round(index * last / max(count - 1, 1))] for index in range(count)]
    entries = [_moment(row) for row in chosen]
    prompt = tag("div", tag("h3", "Prompt"), tag("p", rows[0]["prompt"], class_="text"), class_="prompt")
    return tag("article", prompt, tag("ol", *entries, class_="progress"), class_="sample")


def _moment(row: Mapping[str, Any]) -> Html:
    text = tag("p", row["response"].strip(), class_="text")
    return tag("li", tag("h4", f"step {row['step']}"), text, _scores(row.get("scores") or {}))
