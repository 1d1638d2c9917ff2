"""Outputs: whole or not at all, and a sentence where nothing can be written."""

import pytest

from expunge.errors import ExpungeError
from expunge.records.atomic_files import atomic, write_private, write_text


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / "x") as part:
        part.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_text, write_private])
def test_where_nothing_can_be_written_a_sentence_says_so(tmp_path, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExpungeError, match=r"cannot be written: .*name another place"):
        write(tmp_path / "file" / "x.txt", "text")
    with pytest.raises(ExpungeError):
        write(tmp_path / "folder", "text")
    assert not list((tmp_path / "folder").iterdir())
