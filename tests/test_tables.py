"""Tables as people have them: each fault is refused with file, line and cell, or reported. Each input is a small file."""

import json
import os
import warnings

import pytest

from expunge import ExpungeError
from expunge.data.label_order import in_order
from expunge.sources import load
from expunge.sources.labels import label_names, plain

CSV = "text,label,user\n" + "".join(f"hello {k},{'ab'[k % 2]},u{k % 3}\n" for k in range(12))
ROWS = [{"text": f"t{k}", "label": k % 2, "user": "u"} for k in range(10)]


def read(path, content, query=""):
    """The source, and the warnings of reading it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load(f"text:{path}{query}")
    return source, " ".join(str(w.message) for w in caught)


def refused(path, content, query=""):
    with pytest.raises(ExpungeError) as caught:
        read(path, content, query)
    assert str(path) in str(caught.value)
    return caught.value


def jsonl(*more):
    return "\n".join(json.dumps(row) if isinstance(row, dict) else row for row in [*ROWS, *more])


def row(**values):
    return {"text": "x", "label": 1, "user": "u", **values}


def test_a_sound_table_has_no_warning(tmp_path):
    for name, content in (("a.csv", CSV), ("a.jsonl", jsonl())):
        source, told = read(tmp_path / name, content)
        assert len(source.train) + len(source.test) in (10, 12) and not told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CSV + "one, two,a,u1\n", "line 14 has 4 cells, but the header has 3 (last cell: 'u1')"),
        (CSV + "one,a\n", "line 14 has 2 cells"),
        ('text,label\n"two\nlines",a\n"b,c\n', "line 4 cannot be read: unexpected end of data"),
        (CSV + "x,,u1\n", "line 14 has no label (column 'label')"),
        (CSV + "x,  ,u1\n", "line 14 has no label"),
        (CSV + ",a,u1\n", "line 14 has no text (column 'text')"),
        (
            CSV.replace(",", ";"),
            "the cells are separated by semicolons (;), and not by commas: save the file",
        ),
        ("text;label\none, two;a\n", "the cells are separated by semicolons (;)"),
        (CSV.replace(",", "\t"), "the cells are separated by tabs"),
        (CSV.encode() + b"caf\xe9,a,u1\n", "line 14 is no UTF-8 (byte 0xe9)"),
        (CSV.encode("utf-16"), "line 1 is no UTF-8 (byte 0xff)"),
        ("text,label,label\na,b,c\n", "the header names the column 'label' more than once"),
        ("id,text,label\n1,a,b\n,c,d\n", "line 3 has no id (column 'id')"),
    ],
)
def test_wrong_csv_is_refused_with_its_line(tmp_path, content, words):
    assert words in str(refused(tmp_path / "t.csv", content))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([row(label=None)], "line 11 has no label"),
        ([row(label=float("nan"))], "line 11 has no label"),
        ([row(label="1")], "10 numbers (first: line 1) and 1 texts (first: line 11)"),
        ([row(label=True)], "1 truth values (first: line 11)"),
        ([row(label=[1])], "line 11: the label in 'label' is list ([1])"),
        ([row(label={"a": 1})], "line 11: the label in 'label' is dict"),
        ([row(label=float("inf"))], "line 11: the label in 'label' is float (inf)"),
        ([row(text={"a": 1})], "line 11: the text in 'text' is dict"),
        ([row(text=5)], "line 11: the text in 'text' is int (5)"),
        ([row(id="a")], "line 1 has no id"),
        (['{"text":"x","label":0,"label":1}'], "line 11 cannot be read: the name 'label' occurs twice"),
        (['{"text":"x","m":' + "[" * 100_000 + "]" * 100_000 + "}"], "line 11 is nested too deeply"),
        (['{"text":"x","label":' + "1" * 6000 + "}"], "line 11 cannot be read: Exceeds the limit"),
        (["{"], "line 11 cannot be read"),
        (["[1]"], "line 11 is no object with names"),
    ],
)
def test_wrong_json_lines_are_refused_with_their_line(tmp_path, more, words):
    assert words in str(refused(tmp_path / "t.jsonl", jsonl(*more)))


def test_all_wrong_lines_are_listed_at_once(tmp_path):
    assert len(refused(tmp_path / "t.jsonl", jsonl("{", "[1]", '{"a":1,"a":2}')).problems) == 3
    assert len(refused(tmp_path / "t.csv", CSV + "a,b\n" * 30).problems) == 21


def test_labels_that_differ_in_spaces_case_or_form_are_reported(tmp_path):
    for other in ("A", "a ", "\u00e9"):
        content = CSV + "x,e\u0301,u1\n" * 4 + f"x,{other},u1\n" * 4
        source, told = read(tmp_path / "t.csv", content)
        assert other in source.classes and f"'{other}' (4 samples, first: line 18)" in told
        assert "differ only in spaces, case" in told
    _, told = read(tmp_path / "t.csv", "text,label\n" + "x,1\ny,01\n" * 8)
    assert "'01' (8 samples, first: line 3), '1' (8 samples, first: line 2)" in told


def test_labels_that_may_be_missing_or_moved_are_reported(tmp_path):
    _, told = read(tmp_path / "t.csv", CSV + "x,NaN,u1\n" * 5)
    assert "'NaN' (5 samples, first: line 14) may stand for a missing value" in told
    _, told = read(tmp_path / "t.csv", "text,label\n" + "x,1\nx,2\n" * 5 + "x,spam\n" * 5)
    assert "2 labels are numbers, but 'spam' (5 samples, first: line 12) are not" in told


def test_whole_floats_are_numbers(tmp_path):
    content = "text,label\n" + "".join(f"x{k},{float(k % 11)}\n" for k in range(44))
    assert read(tmp_path / "t.csv", content)[0].classes == [str(k) for k in range(11)]
    source, told = read(tmp_path / "t.jsonl", jsonl(row(label=1.0)))
    assert source.classes == ["0", "1"] and not told
    assert in_order(["10", "9.5", "-2", "1e1"]) == ["-2", "9.5", "10", "1e1"]
    assert label_names(["1.0", "v2.0"]) == ["1.0", "v2.0"] and plain("1") == plain("01") != plain("1.5")


def test_test_labels_of_another_form_name_the_class_they_mean(tmp_path):
    (tmp_path / "test.csv").write_text("text,label,user\nx,b,u\ny,B ,u\n")
    told = str(refused(tmp_path / "t.csv", CSV, f"?test={tmp_path / 'test.csv'}"))
    assert "has the labels ['B '] (first: line 3)" in told and "'B ' is like 'b'" in told


def test_columns_of_lists_are_no_groups(tmp_path):
    rows = [row(tags=["a"], meta={"k": 1}, age=float(3)) for _ in range(8)]
    source, _ = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    assert {k: set(v) for k, v in source.train.groups.items()} == {"user": {"u"}, "age": {"3"}}


# parquet


def parquet(path, **columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names, arrays = list(columns), [pa.array(v) for v in columns.values()]
    parquet.write_table(pa.Table.from_arrays(arrays, [n.rstrip("_") for n in names]), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0, 1, None, 1]}, "row 3 has no label"),
        ({"label": [0.0, 1.0, float("nan"), 1.0]}, "row 3 has no label"),
        ({"label": [[1], [0], [1], [0]]}, "row 1: the label in 'label' is list"),
        ({"label": [b"a", b"b", b"a", b"b"]}, "the label in 'label' is bytes"),
        (
            {"label": [0, 1, 0, 1], "label_": [1, 1, 0, 0]},
            "the header names the column 'label' more than once",
        ),
    ],
)
def test_labels_of_parquet_are_checked(tmp_path, columns, words):
    content = parquet(tmp_path / "t.parquet", text=list("abcd"), **columns)
    assert words in str(refused(tmp_path / "t.parquet", content))


def test_whole_floats_of_parquet_are_numbers(tmp_path):
    content = parquet(tmp_path / "t.parquet", text=["x"] * 44, label=[float(k % 11) for k in range(44)])
    assert read(tmp_path / "t.parquet", content)[0].classes == [str(k) for k in range(11)]


def test_a_parquet_file_that_grows_without_limit_is_refused(tmp_path, monkeypatch):
    """One repeated value takes no space, but every row becomes a dict."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr("expunge.sources.regular_files.INFLATED_BYTES", 1 << 20)
    parquet.write_table(pa.table({"text": pa.nulls(2_000_000)}), tmp_path / "t.parquet")
    with pytest.raises(ExpungeError, match="would grow from"):
        load(f"text:{tmp_path / 't.parquet'}")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100])
def test_files_that_are_no_parquet(tmp_path, content):
    pytest.importorskip("pyarrow")
    assert "cannot be read as parquet" in str(refused(tmp_path / "t.parquet", content))


# files that are no regular files


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_named_pipe_is_refused_and_not_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ExpungeError, match=r"is a named pipe \(FIFO\)"):
        load(f"text:{tmp_path / name}")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ExpungeError, match="is a folder"):
        load(f"text:{tmp_path / 'folder.csv'}")


# tables with tabs, in which many programs do not quote

PLAIN = "".join(f"x{k}\t{'pos' if k % 2 else 'neg'}\n" for k in range(20))


def test_a_tsv_without_quoting_is_refused_where_quotes_join_rows(tmp_path):
    content = 'text\tlabel\n"hello there\tpos\nnice film\tneg\nthe end"\tneg\n' + PLAIN
    error = refused(tmp_path / "t.tsv", content)
    assert "lines 2 to 4 are one row in quotes, but without quoting each of them is a row" in str(error)
    # a quote that closes later, in the first cell alone
    assert "lines 3 to 4 are one row" in str(
        refused(tmp_path / "t.tsv", f'text\tlabel\na\tpos\n"b\tpos\nc"\tneg\n{PLAIN}')
    )


@pytest.mark.parametrize(
    ("ending", "cells", "text"),
    [
        # a table that pandas wrote: line ends and tabs of texts are in quotes
        ("tsv", '"first line\nsecond line"\tpos', "first line\nsecond line"),
        ("tsv", '"with\ttab"\tpos', "with\ttab"),
        ("tsv", '"with\ttab\nand\nlines"\tpos', "with\ttab\nand\nlines"),
        ("tsv", '"in ""quotes"""\tpos', 'in "quotes"'),
        ("tsv", 'a "word" within\tpos', 'a "word" within'),
        # commas and line ends are common in texts, and a CSV has quotes for them
        ("csv", '"first, a\nsecond",pos', "first, a\nsecond"),
    ],
)
def test_quoted_cells_stay_whole(tmp_path, ending, cells, text):
    mark = "\t" if ending == "tsv" else ","
    content = f"text{mark}label\n{cells}\n{PLAIN.replace(chr(9), mark)}"
    path = tmp_path / f"t.{ending}"
    path.write_bytes(content.encode())
    source = load(f"text:{path}")
    assert text in {*source.train.texts.tolist(), *source.test.texts.tolist()}
    assert len(source.train) + len(source.test) == 21
