"""The evaluation's tables as files: JSON for programs, CSV for spreadsheets, Markdown for pages."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.files import json_text, write_atomically

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")

Summary = Mapping[str, Any]


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.json`` and the other tables into ``folder``.

    ``summary.csv`` has a row per model and a column per number (``scores/gold/mean``), ``samples.csv`` a row per prompt
    and model, ``summary.md`` both as text. The summary holds, besides the settings::

        prompts_used                                            which part of all prompts, in words
        prompts, prompts_too_long, prompts_truncated            answered, dropped, and cut (included in prompts)
        models: name -> scores: source -> mean, standard_error
                        win_rate: source -> rate, low, high     against the baseline, which has none
                        kl: mean, standard_error                nats per response, to the reference
                        negative_log_likelihood, perplexity     per token, under the reference
                        length                                  tokens per response
                        distinct_1, distinct_2, ended_fraction
        best_of_n: list of n, kl_bound, scores: source -> mean
        samples: list of prompt, responses: name -> text, scores: source -> score
        toxicity: name -> numbers                               if it was measured
        toxicity_measure: definition, classifier, prompts_used  how it was measured, in words
        texts_truncated: classifier -> texts, truncated         texts that were read, and truncated ones among them
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "summary.json", json_text(summary, indent=2) + "\n")
    models = [{"model": name, **flattened(numbers)} for name, numbers in summary["models"].items()]
    samples = list(_sample_rows(summary["samples"]))
    write_atomically(folder / "summary.csv", csv_text(models))
    write_atomically(folder / "samples.csv", csv_text(samples))
    told = [f"{sentence}\n\n" for sentence in described(summary)]
    write_atomically(folder / "summary.md", "".join([*told, markdown_table(models), "\n", markdown_table(samples)]))


def described(summary: Summary) -> list[str]:
    """Return in sentences which prompts the evaluation used, and how toxicity was measured."""
    sentences = [f"Prompts: {summary['prompts_used']}."] if "prompts_used" in summary else []
    if measure := summary.get("toxicity_measure"):
        sentences.append(
            f"Toxicity: {measure['definition']}, by {measure['classifier']}, of {measure['prompts_used']}."
        )
    return sentences


def flattened(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested numbers as one flat mapping with keys joined by slashes."""
    flat: dict[str, Any] = {}
    for key, value in numbers.items():
        flat |= flattened(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with the union of their columns, for programs and spreadsheets.

    Texts are in quotation marks, so that line breaks of any kind stay inside of their cell. A text that a spreadsheet
    would take for a formula gets a leading apostrophe, see ``csv_cell``.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({column: csv_cell(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """Return a value as it is written to CSV: a text with one of ``_FORMULA`` in front gets an apostrophe before it.

    So does a text that begins with an apostrophe: removing one from every text that has it gives the original texts.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table, numbers to four digits; texts stay on one line."""
    columns = _columns(rows)
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "<br>")


def _sample_rows(samples: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for sample in samples:
        for model, response in sample["responses"].items():
            yield {"prompt": sample["prompt"], "model": model, "response": response["text"], **response["scores"]}
