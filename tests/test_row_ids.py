"""Ids that are row positions: said before a run, and refused where a column of the data has them as its values."""

import numpy as np
import pytest
import torch

from expunge import Split, SplitError, TensorData
from expunge.cli.inputs import draw_split
from expunge.data.row_ids import OwnIds, id_columns
from expunge.data.split_settings import SplitSpec
from expunge.sources import load

# row k belongs to user 3 * k, and to shop k // 5
USERS, SHOPS = 3 * np.arange(20), np.arange(20) // 5
TEST = (torch.arange(100.0, 110)[:, None], torch.arange(10) % 2)


def rows(**options):
    return TensorData(
        torch.arange(20.0)[:, None], torch.arange(20) % 2, groups={"user": USERS, "shop": SHOPS}, **options
    )


def test_positions_that_a_column_has_on_other_rows_are_refused():
    # user 6 is row 2, user 9 row 3
    with pytest.raises(
        SplitError, match="the 2 given ids are positions of rows; but the column 'user' holds"
    ) as error:
        Split.by_ids(rows(), TEST, [6, "9"])
    assert "Give id=user" in str(error.value)
    # the controls: with ids of its own, or as the ids themselves
    named = rows(ids=[f"{k}" for k in range(20)])
    assert Split.by_ids(named, TEST, [6, 9]).forget.index.tolist() == [6, 9]
    assert Split.by_ids(rows(ids=USERS), TEST, [6, 9]).forget.index.tolist() == [2, 3]
    assert Split.by_ids(rows(), TEST, OwnIds(["6", "9"])).forget.index.tolist() == [6, 9]


@pytest.mark.parametrize("ids", [[7], [6, 7], [0]])
def test_other_positions_are_taken(ids):
    """No user has the number 7, user 0 is row 0, and a shop has several rows."""
    split = Split.by_ids(rows(), TEST, ids)
    assert split.forget.index.tolist() == sorted(ids)
    assert split.spec["ids"] == split.to_dict()["ids"] == "positions of rows"
    assert "ids" not in Split.by_ids(rows(ids=USERS), TEST, [3]).spec
    assert "ids" not in Split.by_class(rows(), TEST, 1).spec


def test_columns_that_hold_ids():
    assert id_columns(["6", "9"], rows(), None) == {"user": True}
    assert id_columns(["0", "3"], rows(), None) == {"user": True, "shop": False}
    assert id_columns(["6", "7"], rows(), None) == id_columns([], rows(), None) == {}
    # a fifth of a table is its test set: an id may stand there, but not all of them
    held_out = TensorData(torch.zeros(2, 1), [0, 1], groups={"user": np.array([60, 63])})
    assert id_columns(["6", "63"], rows(), held_out) == {"user": True}
    assert id_columns(["60", "63"], rows(), held_out) == {}


def test_an_unknown_id_names_the_column_and_the_form_of_ids():
    with pytest.raises(
        SplitError, match="'user' holds the unknown ids: give id=user; the data has no ids, so an id"
    ):
        Split.by_ids(rows(), TEST, [54, 57])
    named = rows(ids=[f"train/ant/{k:03}.png" for k in range(20)])
    with pytest.raises(SplitError) as error:
        Split.by_ids(named, TEST, ["54"])
    assert "give id=user; the data has 20 ids of the form 'aaaaa/aaa/000.aaa'." in str(error.value)
    assert "ant" not in str(error.value)
    shops = TensorData(torch.zeros(20, 1), torch.arange(20) % 2, groups={"shop": 100 + SHOPS})
    with pytest.raises(SplitError, match="for several samples each: give --forget-group shop=VALUE"):
        Split.by_ids(shops, TEST, [101])
    with pytest.raises(SplitError, match="a position from 0 to 19; name the column of ids"):
        Split.by_ids(rows(), TEST, [55])


@pytest.fixture
def posts(tmp_path):
    """Twenty posts, of which row k has the number 3 * k."""
    lines = [f"{3 * k},word{k} word{k + 1},{'ab'[k % 2]}" for k in range(20)]
    (tmp_path / "posts.csv").write_text("\n".join(["post_id,text,label", *lines]))
    (tmp_path / "ids.txt").write_text("3\n6\n")
    return tmp_path


@pytest.mark.parametrize("limit", ["", "&limit=14"])
def test_a_table_without_its_id_column_is_refused_before_the_run(posts, limit, capsys):
    flags = SplitSpec(forget_ids=posts / "ids.txt", copies="ignore", validation=0)
    source = load(f"text:{posts}/posts.csv?test_limit=2{limit}")
    with pytest.raises(SplitError, match="Give id=post_id"):
        flags.draw(source.train, source.test)
    named = load(f"text:{posts}/posts.csv?id=post_id")
    texts = np.asarray(named.train.texts)[flags.draw(named.train, named.test).forget.index.numpy()]
    assert texts.tolist() == ["word1 word2", "word2 word3"]
    draw_split(flags, named)
    assert "no column of ids" not in capsys.readouterr().err


def test_a_request_by_row_numbers_gets_a_note(posts, capsys):
    source = load(f"text:{posts}/posts.csv?test_limit=2")
    # no post has such a number
    row = next(name for name in source.train.ids if int(name) % 3)
    (posts / "ids.txt").write_text(row)
    split = draw_split(SplitSpec(forget_ids=posts / "ids.txt", validation=0), source)
    notes = " ".join(capsys.readouterr().err.split())
    assert split.forget.ids == [row] and "an id is the position of a row, from 0; if a column holds" in notes


def test_tables_of_datasets_know_whether_they_have_ids(tmp_path):
    datasets = pytest.importorskip("datasets")
    columns = {"user_id": USERS.tolist(), "text": [f"word{k}" for k in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "set")
    assert (
        load(f"hf:{tmp_path}/set").train.row_ids and not load(f"hf:{tmp_path}/set?id=user_id").train.row_ids
    )
