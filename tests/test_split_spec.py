"""A split by values: problems are told in the words of whoever wrote them, a grid file's entries or flags."""

import pytest
import torch

from expunge import Split, TensorData
from expunge.cli.flags import SplitFlags
from expunge.errors import SplitError
from expunge.split_spec import FORGET, SplitSpec


@pytest.mark.parametrize(
    ("kind", "names"),
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
def test_problems_are_told_at_once_and_in_the_writers_words(kind, names):
    with pytest.raises(SplitError) as caught:
        kind(forget_group="site", forget_share=0.1, class_share=0.5).draw(None, None)
    text = str(caught.value)
    assert len(caught.value.problems) == 3 and all(name in text for name in names)
    assert ("--" in text) == (kind is SplitFlags)


@pytest.mark.parametrize("field", FORGET)
def test_each_of_the_four_is_seen_alone(field):
    given = {"forget_class": ("3",), "forget_share": 0.1, "forget_ids": "ids.txt", "forget_group": "site=1"}
    assert SplitSpec(**{field: given[field]}).forgets and not SplitSpec().forgets
    with pytest.raises(SplitError, match=r"0 of .*none.*give exactly one"):
        SplitSpec().draw(None, None)


@pytest.mark.parametrize(
    ("names", "asked", "number"),
    [
        (sorted(map(str, range(12))), "2", 4),  # 0, 1, 10, 11, 2, ...
        (["1", "2", "3", "4"], "3", 2),
        (["1", "2", "3", "4"], "0", 0),  # the name of none
        (["ant", "bee"], "1", 1),
        (None, "1", 1),
    ],
)
def test_a_class_is_named_and_numbered_only_where_none_has_that_name(names, asked, number):
    count = len(names or "ab")
    train, test = (
        TensorData(torch.arange(n).float()[:, None] + n, torch.arange(n) % count, classes=names)
        for n in (48, 24)
    )
    for split in (SplitSpec(forget_class=(asked,)).draw(train, test), Split.by_class(train, test, asked)):
        assert split.forget_classes == (number,)
