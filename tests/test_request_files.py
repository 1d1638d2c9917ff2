"""Files of requests: no request, person, day or id of a CSV file or a file of ids is lost or changed."""

import os

import pytest
import torch

from expunge import Split, TensorData
from expunge.cli import main
from expunge.cli.project_flags import ForgetFlags
from expunge.data import id_file
from expunge.data.id_file import read_ids
from expunge.days import is_day
from expunge.errors import ExpungeError, SplitError
from expunge.projects.request_csv import read_csv
from expunge.receipts.request_entry import request_entry


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "r.csv").write_bytes(text.encode())
        return tmp_path / "r.csv"

    return write


def test_csv_rows_of_one_subject_are_one_request(table):
    file = table("id,subject,due\np1,case 1,2026-12-01\np2,case 2,\np3,case 1,2026-12-01\n")
    first, second = read_csv(file, due="2026-12-09")
    assert (first.ids, first.subject, first.due) == (("p1", "p3"), "case 1", "2026-12-01")
    assert (second.ids, second.due, second.goal) == (("p2",), "2026-12-09", None)


@pytest.mark.parametrize("header", ["id, subject, due", "id,Subject,Due", "\ufeffID ,SUBJECT,due\r"])
def test_spaces_and_case_of_the_header_lose_no_person(table, header):
    requests = read_csv(table(f'{header}\nu1,"Doe, Jane",2026-12-01\n\nu2,case 2,2026-12-02\n'))
    assert [(r.ids, r.subject, r.due) for r in requests] == [
        (("u1",), "Doe, Jane", "2026-12-01"),
        (("u2",), "case 2", "2026-12-02"),
    ]


def test_all_problems_of_a_csv_file_are_shown_at_once(table):
    text = "id,id,note,due\np1,p1,,soon\n ,,x,\nu1,Doe, Jane,,\nu2\nu3,u3,,20261201\nu4,u4,,2026-W49-2\n"
    with pytest.raises(ExpungeError) as caught:
        read_csv(table(text))
    shown = "\n".join(caught.value.problems)
    for part in (
        "names the column 'id' more than once",
        "column 'note', which has no meaning",
        "line 2: due is 'soon'",
        "line 3 has no id",
        "line 4 has 5 cells",
        "line 5 has 1 cells",
        "line 6: due is '20261201'",
        "line 7: due is '2026-W49-2'",
    ):
        assert part in shown
    assert all("r.csv: " in text for text in caught.value.problems)


@pytest.mark.parametrize("text, words", [
    ("name,subject\nu1,case 1\n", "no column 'id'; its columns: 'name', 'subject'"),
    ("id;subject\nu1;case 1\n", "separated by semicolons \\(;\\), and not by commas: .*the header is 'id;subject'"),
    ("id,subject\n", "names no id"),
    ("", "names no id"),
])  # fmt: skip
def test_a_csv_file_without_ids_is_refused(table, text, words):
    with pytest.raises(ExpungeError, match=words):
        read_csv(table(text))


def test_an_id_column_may_have_another_name_but_not_that_of_a_day(table):
    assert read_csv(table("Name,subject\nu1,case 1\n"), "Name")[0].ids == ("u1",)
    with pytest.raises(ExpungeError, match="'due' cannot hold the ids"):
        read_csv(table("due,subject\nu1,case 1\n"), "due")


def test_the_goal_counts_for_the_requests_of_a_csv_file(table):
    flags = ForgetFlags(csv=table("id,subject\nu1,case 1\nu2,case 2\n"), goal="unlearn")
    assert [r.goal for r in flags.requests(())] == ["unlearn"] * 2


@pytest.mark.parametrize(
    "text", ["20261201", "2026-W49-2", "2026-12-1", " 2026-12-01", "2026-13-01", "٢٠٢٦-12-01"]
)
def test_a_day_has_one_spelling(text):
    assert is_day("2026-12-01") and not is_day(text)
    with pytest.raises(ExpungeError, match="is not a day"):
        request_entry("case 1", ["u1"], due=text)


def test_another_spelling_of_a_day_is_refused_by_the_commands(tmp_path, capsys):
    for words in (["forget", "--class", "3", "--due", "20261201"], ["status", "--today", "20261201"]):
        assert main([*words, "--project", str(tmp_path)]) == 2
        assert "write a day as 2026-01-31" in capsys.readouterr().err


@pytest.mark.parametrize("mark, name", [(";", "semicolons \\(;\\)"), ("\t", "tabs"), ("|", "bars \\(\\|\\)")])
def test_other_separators_than_commas_are_named_once(tmp_path, mark, name):
    """Excel writes semicolons where the comma is the decimal sign. The second row would have three cells."""
    file = tmp_path / "r.csv"
    file.write_text(mark.join(["id", "subject"]) + "\n" + mark.join(["p1", "Doe, Jane, case 1"]) + "\n")
    with pytest.raises(
        ExpungeError, match=f"cells are separated by {name}, and not by commas: save"
    ) as error:
        read_csv(file)
    assert len(error.value.problems) == 1
    # the controls: the same in a cell, and in a file with commas
    file.write_text(f'id,subject\n"p{mark}1","case{mark}1"\n')
    assert read_csv(file)[0].ids == (f"p{mark}1",)


# ---- spaces and line breaks of ids


def forgotten(known, file):
    """The ids that a file of ids forgets in data with the ids `known`, or in data without ids."""
    labels = torch.arange(12) % 2
    train = TensorData(torch.arange(12.0)[:, None], labels, ids=known and [*known, *"uvwxyz012345"][:12])
    test = TensorData(torch.arange(12.0)[:, None], labels)
    return Split.by_ids(train, test, file, validation=0, copies="ignore").forget.ids


@pytest.mark.parametrize("known, line, found", [
    (["a b", " a b"], " a b", " a b"),
    (["a b", " a b"], "a b", "a b"),
    (["a b", "c"], " a b\t", "a b"),
    ([" a b", "c"], " a b", " a b"),
    (["a\u2028b", "a", "b"], "a\u2028b", "a\u2028b"),
    (["a\rb", "a", "b"], "a\rb", "a\rb"),
    (["\u2028a", "a"], "\u2028a", "\u2028a"),
    (None, " 7 ", "7"),
])  # fmt: skip
def test_an_exact_id_wins_over_one_without_spaces(tmp_path, known, line, found):
    (tmp_path / "ids.txt").write_bytes(f"{line}\r\n \n".encode())
    assert forgotten(known, tmp_path / "ids.txt") == [found]
    (tmp_path / "r.csv").write_bytes(f'id\n"{line}"\n'.encode())
    assert forgotten(known, read_csv(tmp_path / "r.csv")[0].ids) == [found]


@pytest.mark.parametrize("known, lines, words", [
    (["a b", " a b"], "a b ", "differ only in the spaces"),
    ([" a b", "a b\t"], "  a b", "differ only in the spaces"),
    ([" a b", "c"], "a b", "is like ' a b'"),
    (["a b", "c"], "a b\n a b", "given twice"),
    (["a", "b"], "a\u2028b", "unknown"),
])  # fmt: skip
def test_spaces_never_choose_between_two_ids(tmp_path, known, lines, words):
    (tmp_path / "ids.txt").write_bytes(lines.encode())
    with pytest.raises(SplitError, match=words):
        forgotten(known, tmp_path / "ids.txt")


def test_without_data_spaces_around_ids_do_not_count(tmp_path):
    (tmp_path / "ids.txt").write_text(" 23 \n4\n")
    assert read_ids(tmp_path / "ids.txt", strip=True) == ["23", "4"]


def test_a_pipe_is_read_where_it_is_read_once(tmp_path, monkeypatch):
    def pipe(content):
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        return reading

    reading = pipe(b"23\n4\n")
    assert read_ids(f"/dev/fd/{reading}", pipe=True) == ["23", "4"]
    os.close(reading)
    monkeypatch.setattr(id_file, "LARGEST_PIPE", 4)
    for content, ids in ((b"23\n4", ["23", "4"]), (b"23\n45", None)):
        reading = pipe(content)
        if ids is None:
            with pytest.raises(
                ExpungeError, match="a pipe with more than 4 bytes; write the ids into a file"
            ):
                read_ids(f"/dev/fd/{reading}", pipe=True)
        else:
            assert read_ids(f"/dev/fd/{reading}", pipe=True) == ids
        os.close(reading)
    # a file may be larger, and elsewhere a pipe is refused: it would be read twice
    (tmp_path / "ids.txt").write_text("23\n45\n")
    assert read_ids(tmp_path / "ids.txt", pipe=True) == ["23", "45"]
    reading = pipe(b"23")
    with pytest.raises(ExpungeError, match="is no file"):
        read_ids(f"/dev/fd/{reading}")
    os.close(reading)
