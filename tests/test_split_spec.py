"""A split as plain values: problems name the entries of a grid file, or the flags of a command."""

import warnings

import pytest
import torch

from expunge import Split, TensorData
from expunge.cli.flags import SplitFlags
from expunge.cli.inputs import draw_split, split_for_original
from expunge.data.split_settings import FORGET, SplitSpec
from expunge.errors import SplitError
from expunge.sources import Source


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (
            SplitSpec,
            ["forget_share, forget_group", "class_share 0.5", "of forget_class", "forget_group is 'site'"],
        ),
        (
            SplitFlags,
            [
                "--forget-share, --forget-group",
                "--class-share 0.5",
                "of --forget-class",
                "--forget-group is 'site'",
            ],
        ),
    ],
)
def test_one_error_lists_all_problems_by_entry_or_flag(spec, names):
    with pytest.raises(SplitError) as caught:
        spec(forget_group="site", forget_share=0.1, class_share=0.5).draw(None, None)
    text = str(caught.value)
    assert len(caught.value.problems) == 3 and all(name in text for name in names)
    assert ("--" in text) == (spec is SplitFlags)


@pytest.mark.parametrize("field", FORGET)
def test_each_of_the_four_ways_is_recognised(field):
    values = {"forget_class": ("3",), "forget_share": 0.1, "forget_ids": "ids.txt", "forget_group": "site=1"}
    assert SplitSpec(**{field: values[field]}).forgets and not SplitSpec().forgets
    with pytest.raises(SplitError, match=r"0 of .*none.*give exactly one"):
        SplitSpec().draw(None, None)


@pytest.mark.parametrize(
    ("names", "asked", "number"),
    [
        (sorted(map(str, range(12))), "2", 4),  # sorted as texts: 0, 1, 10, 11, 2, ...
        (["1", "2", "3", "4"], "3", 2),
        (["1", "2", "3", "4"], "0", 0),  # no class has this name
        (["ant", "bee"], "1", 1),
        (None, "1", 1),
    ],
)
def test_a_text_is_a_class_number_only_if_no_class_has_that_name(names, asked, number):
    count = len(names or "ab")
    train, test = (
        TensorData(torch.arange(n).float()[:, None] + n, torch.arange(n) % count, classes=names)
        for n in (48, 24)
    )
    for split in (SplitSpec(forget_class=(asked,)).draw(train, test), Split.by_class(train, test, asked)):
        assert split.forget_classes == (number,)


def source(names, first=0):
    """48 training samples of the classes from `first` on, and 24 test samples that are copies of some."""
    x, y = torch.arange(48).float()[:, None], torch.arange(48) % (len(names) - first) + first
    train, test = (TensorData(x[:n], y[:n], classes=names) for n in (48, 24))
    return Source(train, test, names, (1,), "some")


def test_a_note_says_what_is_forgotten(capsys):
    quiet = {"validation": 0, "copies": "ignore"}
    draw_split(SplitFlags(forget_class=("10", "ant"), **quiet), source(["0", "10", "ant", "bee"]))
    assert (
        capsys.readouterr().err
        == "note: forgets 24 of 48 training samples, of class 10 (number 1), ant (number 2).\n"
    )
    draw_split(SplitFlags(forget_share=0.25, **quiet), source(["0", "1"]))
    assert capsys.readouterr().err == "note: forgets 12 of 48 training samples.\n"
    with warnings.catch_warnings():
        # the note alone says it
        warnings.filterwarnings("error", message=".*copies of training samples")
        warnings.filterwarnings("ignore", message=".*are also in the test set")
        draw_split(SplitFlags(forget_class=("10", "ant"), validation=0), source(["0", "10", "ant", "bee"]))
    assert "note: 12 test samples are exact copies of training samples" in capsys.readouterr().err


def test_an_original_forgets_nothing_and_needs_no_class_0(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = split_for_original(
            SplitFlags(validation=0.25, split_seed=3), source(["0", "1", "2"], first=1)
        )
    assert len(split.for_original.retain) == 36 and capsys.readouterr().err == ""
    asked = SplitFlags(forget_class=("2",), validation=0.25, split_seed=3)
    assert draw_split(asked, source(["0", "1", "2"], first=1)).train_hash == split.train_hash
    assert "are also in the test set" in capsys.readouterr().err
