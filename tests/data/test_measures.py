"""Measures of rows in one pass: against the same numbers from all rows at once."""

import random
import statistics

import pytest

from plaudit.data.measures import LengthCounts, Lengths, RowMeasures
from plaudit.data.rows import Origin, ResponseRow, TextRow


@pytest.mark.parametrize("number", [1, 2, 19, 20, 21, 1000])
def test_lengths_are_those_of_all_values(number: int) -> None:
    draw = random.Random(number)
    values = [draw.choice([0, 3, draw.randint(0, 50), draw.randint(0, 10**7)]) for _ in range(number)]
    counts = LengthCounts()
    for start in range(0, number, 7):
        counts.add("x", values[start : start + 7])
    ordered = sorted(values)
    middle, high = (number - 1) // 2, round(0.95 * (number - 1))
    expected = Lengths(ordered[0], ordered[middle], statistics.fmean(values), ordered[high], ordered[-1])
    assert counts.summary() == {"x": expected}


def test_nothing_measured() -> None:
    measures = RowMeasures(3)
    assert measures.lengths.summary() == {}
    assert measures.duplicates_and_samples(3) == (0, [])
    assert (measures.different_prompts(), measures.contradictions()) == (0, None)


def test_rows_that_are_kept_are_few_and_evenly_spaced() -> None:
    measures, number = RowMeasures(4), 30_000
    for start in range(0, number, 1000):
        measures.add([TextRow(f"text {n // 3}", Origin("f", n + 1)) for n in range(start, start + 1000)])
    duplicates, samples = measures.duplicates_and_samples(4)
    assert (duplicates, measures.different_prompts()) == (20_000, 10_000)
    assert 2_000 < len(measures.kept) <= 4_200
    assert all(row.origin.line % 3 == 1 for row in samples), "a sample is the first of equal rows"
    places = [row.origin.line / number for row in samples]
    assert places == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.01)


def test_long_rows_are_kept_up_to_a_number_of_characters() -> None:
    measures = RowMeasures(2)
    for line in range(1, 301):
        measures.add([ResponseRow(f"{line}", "x" * 100_000, Origin("f", line))])
    assert 40 <= len(measures.kept) <= 84
    assert [row.origin.line for row in measures.duplicates_and_samples(2)[1]] == pytest.approx([1, 150], abs=10)
