"""Tables of text: delimiters, strict quoting, and lines that never disappear."""

from pathlib import Path
from typing import Any

import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed
from plaudit.errors import PlauditError


def _read(path: Path, text: str | bytes) -> dict[int, Any]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return {line: rec.reason if isinstance(rec, Malformed) else rec for line, rec in numbered_records(str(path))}


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(tmp_path: Path, delimiter: str, ending: str, end: str) -> None:
    rows = ["a,b", '"x, y; z | w\tv","say ""hi"""', '"",2', '"two\nlines",3', "4,5"]
    text = end.join(row.replace('",', f'"{delimiter}') if '"' in row else row.replace(",", delimiter) for row in rows)
    assert _read(tmp_path / f"rows.{ending}", text) == {
        2: {"a": "x, y; z | w\tv", "b": 'say "hi"'},
        3: {"a": "", "b": "2"},
        4: {"a": "two\nlines", "b": "3"},
        6: {"a": "4", "b": "5"},
    }


def test_the_header_decides_about_the_delimiter_not_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert _read(path, "question;answer\na, b, c;d\ne;f, g\n")[2] == {"question": "a, b, c", "answer": "d"}
    assert _read(path, "text\nx; y\n") == {2: {"text": "x; y"}}
    assert _read(path, "sep=;\na;b,c\n1;2\n") == {3: {"a": "1", "b,c": "2"}}


def test_blank_lines_are_skipped_and_bad_rows_named(tmp_path: Path) -> None:
    assert _read(tmp_path / "rows.csv", b'a,b\n\n1,2\n3\n\xff,4\n"5",6\r\n\r\n') == {
        3: {"a": "1", "b": "2"},
        4: "number of fields differs from the header's",
        5: "not valid UTF-8",
        6: {"a": "5", "b": "6"},
    }


def test_long_fields_are_read(tmp_path: Path) -> None:
    assert _read(tmp_path / "rows.csv", "text\n" + "x" * 200_000 + "\n") == {2: {"text": "x" * 200_000}}


@pytest.mark.parametrize(
    "text, line",
    [
        ('a,b\n1,2\n3,"4\n5,6\n7,8\n', 3),  # the quotation mark swallows the rest of the file
        ('a,b\n1,"2\n3,"4"\n', 2),
        ('a,b\n1,2\n"3" x,4\n', 3),
        ('a,b\n"say \\"hi\\"",4\n', 2),
    ],
)
def test_quotation_marks_that_do_not_match_refuse_the_file(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(PlauditError, match=rf"rows.csv line {line}: quotation marks do not match"):
        _read(tmp_path / "rows.csv", text)


@pytest.mark.parametrize("swallowed", [1, 2, 500])
def test_rows_within_a_cell_are_counted_line_by_line(tmp_path: Path, swallowed: int) -> None:
    rows = [f"Where {number}?,The sea {number}" for number in range(1000)]
    rows[300] = '"' + rows[300]
    rows[301 + swallowed] = rows[301 + swallowed].replace(",", '",')
    read = _read(tmp_path / "rows.csv", "prompt,response\n" + "\n".join(rows))
    bad = {line for line, record in read.items() if record == "a quoted cell that contains whole rows"}
    assert bad == set(range(302, 302 + swallowed + 2))
    assert len(read) == 1000


@pytest.mark.parametrize(
    "cell",
    [
        "Dear Sir,\nI agree, of course.\nYours, A.",
        "1, 2\n3, 4\n5, 6",
        "def f(a,b):\n    return a\nf(1,2)",
        "Roses are red,\nviolets are blue,\nand so\nare you",
        "roses,\nviolets,\nand all,\nthe rest,\n",
        "a list:\n- one\n- two\n- three",
    ],
)
@pytest.mark.parametrize("row", ['"{}",no', 'no,"{}"'])
def test_texts_of_several_lines_are_not_taken_for_rows(tmp_path: Path, cell: str, row: str) -> None:
    read = _read(tmp_path / "rows.csv", f"a,b\n1,2\n{row.format(cell)}\n3,4\n")
    assert cell in read[3].values()
    assert len(read) == 3


def test_a_row_of_several_lines_with_wrong_fields_counts_line_by_line(tmp_path: Path) -> None:
    read = _read(tmp_path / "rows.csv", 'a,b\n"1\n2\n3"\n4,5\n')
    reason = "number of fields differs from the header's"
    assert read == {2: reason, 3: reason, 4: reason, 5: {"a": "4", "b": "5"}}


def test_a_quotation_mark_within_an_unquoted_cell_is_uncertain(tmp_path: Path) -> None:
    # The first row ends too early, and its rest looks like a row.
    read = _read(tmp_path / "rows.csv", 'a,b\n1,"x"\nrest,y"\n2,z\n')
    assert read[3] == "a quotation mark within a cell that is not quoted"
    assert read[4] == {"a": "2", "b": "z"}


def test_tsv_without_quoting_keeps_its_quotation_marks(tmp_path: Path) -> None:
    rows = [f'He said "no" {number}\t"so" and so' for number in range(20)]
    read = _read(tmp_path / "rows.tsv", "a\tb\n" + "\n".join(rows) + '\n"whole"\tx\n')
    assert read[2] == {"a": 'He said "no" 0', "b": '"so" and so'}
    assert read[22] == {"a": '"whole"', "b": "x"}
    with pytest.raises(PlauditError, match="line 4: quotation marks"):
        _read(tmp_path / "rows.tsv", 'a\tb\n"x"\t1\n"y ""z"""\t2\n"so" and so\t3\n')


@pytest.mark.parametrize(
    "content, said",
    [
        (b"\x89PNG\r\n\x1a\n1,2\n", "the header is not text in UTF-8"),
        (b"aaaa,\0\n1,2\n", "the header is not text in UTF-8"),
        (",".join(map(str, range(10_001))).encode() + b"\n", "10001 columns are too many"),
    ],
)
def test_other_things_than_a_header_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(PlauditError, match=rf"line 1: {said}"):
        _read(tmp_path / "rows.csv", content)


def test_zero_bytes_are_not_text(tmp_path: Path) -> None:
    assert _read(tmp_path / "rows.csv", b"a,b\n1,2\n3,\0\n") == {2: {"a": "1", "b": "2"}, 3: "a zero byte"}


def test_a_text_in_place_of_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match=r"line 1: (a b ){15}… is too long .*; add a header"):
        _read(tmp_path / "rows.csv", "a b " * 200 + "\nx\n")


@pytest.mark.parametrize("header, name", [("a,b,a", "a"), ("a,,b,", r"\(nothing\)")])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, header: str, name: str) -> None:
    with pytest.raises(PlauditError, match=rf"rows.csv line 1: two columns named {name}; rename"):
        _read(tmp_path / "rows.csv", f"{header}\n1,2,3,4\n")
