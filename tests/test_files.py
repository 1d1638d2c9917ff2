"""Outputs are written whole or not at all, with a clear error where writing is not possible."""

import pytest

from expunge.errors import ExpungeError
from expunge.records.atomic_files import atomic, write_private, write_text


def test_a_failed_block_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / "x") as part:
        part.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_text, write_private])
def test_impossible_outputs_are_refused(tmp_path, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExpungeError, match=r"cannot be written: .*give another path"):
        write(tmp_path / "file" / "x.txt", "text")
    with pytest.raises(ExpungeError):
        write(tmp_path / "folder", "text")
    assert not list((tmp_path / "folder").iterdir())
