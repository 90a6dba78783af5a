"""The quick way to read JSON gives what the strict decoder gives, or nothing."""

import json
import random

import pytest

from plaudit.data.readers import Malformed
from plaudit.data.readers.strict_json import StrictDecoder, quick_record

WORDS = ["a", "b", '"', '\\"', "\\\\", ":", " :", '\\":', "\\u003a", "\\u0022", "\\n", "{", "[", "é", "\\ud83d\\ude00"]
VALUES = ["1", "-0.5", "1e3", "1e400", "9" * 30, "true", "null", "NaN", "[]", "{}", "[1, [2]]", '{"a": 1}']


def strictly(text: str) -> object:
    """Return the record, or the reason why there is none."""
    decoder = StrictDecoder()
    try:
        value, end = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        return str(error)
    record = decoder.record(value, text)
    if text[end:].strip():
        return "more than one value"
    return record.reason if isinstance(record, Malformed) else record


def written(draw: random.Random, depth: int = 0) -> str:
    """Return an object with strange texts, keys that may be repeated, and numbers of all sizes."""

    def text() -> str:
        return '"' + "".join(draw.choices(WORDS, weights=[8, 8, *[1] * (len(WORDS) - 2)], k=draw.randint(0, 4))) + '"'

    def value() -> str:
        kinds = [text, lambda: draw.choice(VALUES), *([lambda: written(draw, depth + 1)] if depth < 2 else [])]
        return draw.choice(kinds)()

    pairs = (
        f"{text()}{draw.choice(['', ' ', '  '])}:{draw.choice(['', ' '])}{value()}" for _ in range(draw.randint(0, 3))
    )
    return "{" + ", ".join(pairs) + "}"


def test_it_agrees_with_the_strict_decoder() -> None:
    draw, read = random.Random(0), 0
    for _ in range(20_000):
        text = written(draw)
        quick = quick_record(text.encode())
        if quick is not None:
            read += 1
            assert repr(quick) == repr(strictly(text)), text
    assert read > 4_000


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "\\u0061": 1}',
        '{"a" : "x", "a"\t: "\\u003a"}',
        '{"a": [{"b": 1}, {"b": 1, "b": 2}]}',
        '{"a": "x\\\\":1, "a": "\\":"}',
        '{"a": 1e999}',
        '{"a": [' + "9" * 400 + "]}",
        '{"a": ' + "[" * 200 + "]" * 200 + "}",
        '{"a": "\\ud800"}',
        '{"a": "\x01"}',
        "[1]",
        "",
    ],
)
def test_what_it_leaves_to_the_strict_decoder(text: str) -> None:
    assert quick_record(text.encode()) is None


@pytest.mark.parametrize(
    "record",
    [
        {"chosen": '\n\nHuman: a "quoted" word: this one\n\nAssistant: b', "rejected": 'C:\\ and : and "x":'},
        {"prompt": [{"role": "user", "content": '{"a": 1}'}], "score": 0.1, "number": -3, "none": None, "b": True},
        {"text": "a text with a smile :)", "ünï": "😀 [[{{"},
    ],
)
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" , ", " : ")])
def test_usual_records_are_read_quickly(record: dict[str, object], ascii: bool, separators: tuple[str, str]) -> None:
    assert quick_record(json.dumps(record, ensure_ascii=ascii, separators=separators).encode() + b"\r\n") == record
