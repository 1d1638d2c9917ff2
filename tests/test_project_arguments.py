"""Wrong arguments of `Project` and `Session`, and a system that refuses to write: errors of the library, and no file changes."""

import builtins
import errno
import os
from datetime import date, datetime

import numpy as np
import pytest
import torch

from expunge import Project, Retrain, Session
from expunge.errors import ExpungeError
from expunge.projects.setting_paths import fixed_paths
from expunge.projects.settings import checked, read_settings
from expunge.projects.wanted import Wanted, wanted
from project_office import VALUES, content

WRONG = {
    "ids": (
        [None],
        [["p1"]],
        1.5,
        [1.5],
        b"p1",
        [b"p1"],
        {"p1": 1},
        True,
        [True],
        object(),
        np.array([["p1"]]),
    ),
    "classes": ([None], [["3"]], 1.5, b"3", {"3": 1}, True, object()),
    "group": (5, None, ["user=a"], b"user=a", "user"),
    "goal": ("x", 5, ["untrain"]),
    "subject": (5, None, ["a"], b"a", "a\nb"),
    "due": ("yesterday", 5, None, date(2099, 1, 1), "2026-02-30"),
    "received": ("x", 5, None),
    "command": (5, None),
}


@pytest.fixture
def of_session(classifier):
    """Arguments of a session: model, data, task."""
    return classifier.model, (classifier.by_class.forget.data, classifier.by_class.test.data), classifier.task


def refused(call, words="."):
    with pytest.raises(ExpungeError, match=words):
        call()


def test_wrong_arguments_of_a_request_change_nothing(project, of_session):
    before = content(project.path)
    session = Session(*of_session)
    for name, values in WRONG.items():
        for value in values:
            given = {**({} if name in ("ids", "classes", "group") else {"ids": ["p9"]}), name: value}
            refused(lambda given=given: project.forget(**given))
            if name in ("ids", "classes", "group", "goal"):
                refused(lambda given=given: session.forget(**given))
    for new in (5, None, "u1", [5], [None], {"a": 1}, [Wanted(ids=["p1"])]):
        for call in (project.answer, project.register, project.plan):
            refused(lambda call=call, new=new: call(new))
    refused(lambda: project.forget(ids="u1"), "unknown")
    refused(
        lambda: project.forget(ids=[1.5]), r"ids has 1.5, a float; give texts or whole numbers, one or a list"
    )
    for today in ("2026-01-01", 5, datetime.now()):
        refused(lambda today=today: project.status(today), "give a datetime.date")
    assert content(project.path) == before and session.answers == []


def test_one_value_or_several_of_any_kind_are_names():
    for value in ("p1", ["p1"], {"p1"}, np.array(["p1"]), np.array("p1"), [np.str_("p1")], iter(["p1"])):
        assert wanted(ids=value).ids == ("p1",)
    for value in (3, [3], torch.tensor(3), torch.tensor([3]), np.int64(3), [np.int64(3)], range(3, 4)):
        assert wanted(ids=value).ids == ("3",)


def test_wrong_arguments_of_a_project(project, office, tmp_path):
    for path in (5, None, b"w", ["w"], object(), "a\0b"):
        refused(lambda path=path: Project(path), "the folder is")
    for option in ({"wait": "x"}, {"wait": None}, {"wait": -1}, {"wait": float("nan")}, {"say": 5}):
        refused(lambda option=option: Project(project.path, **option), next(iter(option)))
    good = [tmp_path / "new", checked(VALUES), office / "mine.pt"]
    for at, value in ((0, 5), (1, {"data": "digits"}), (1, 5), (2, 5)):
        refused(lambda at=at, value=value: Project.create(*good[:at], value, *good[at + 1 :]))
    refused(lambda: Project.create(*good, 5), "the history is 5")
    assert not (tmp_path / "new").exists()


OPTIONS = [
    {"validation": 2.0}, {"validation_from": "x"}, {"trials": "x"}, {"trials": -1}, {"seed": -1}, {"split_seed": 2**70},
    {"copies": "x"}, {"copies": 5}, {"fixed": 5}, {"fixed": [5]}, {"max_loss": "x"}, {"max_loss": -1}, {"measures": [5]},
    {"names": 5}, {"factory": 5}, {"held_out": 5}, {"on_row": 5}, {"returned": 5}, {"waiting": [5]}, {"command": 5},
]  # fmt: skip


def test_wrong_values_of_a_session_are_refused_at_once(of_session):
    for option in OPTIONS:
        refused(lambda option=option: Session(*of_session, **option), next(iter(option)))


def test_a_recipe_needs_a_factory_when_the_session_is_made(of_session):
    recipe, model = Retrain(epochs=1), of_session[0]
    words = (
        "recipe is given, and factory is not.*a function without arguments that returns the model with fresh"
    )
    refused(lambda: Session(*of_session, recipe=recipe), words)
    refused(lambda: Session(*of_session, recipe=recipe, factory=model), "factory is a model")
    refused(lambda: Session(*of_session, factory=lambda seed: model), "without arguments .*'seed'")
    # the controls: a factory with defaults, and none without a recipe
    for options in ({"recipe": recipe, "factory": lambda seed=0: model}, {"factory": lambda: model}, {}):
        assert Session(*of_session, **options).setting.recipe is options.get("recipe")


# ---- a system that refuses to write


def breaks(monkeypatch, at, error):
    """Let each writing call of the system fail from the `at`-th one on, or none for 0. Returns the counter."""
    done = [0]

    def failing(original, writes):
        def call(*args, **options):
            if writes(*args, **options):
                done[0] += 1
                if at and done[0] >= at:
                    raise OSError(error, os.strerror(error))
            return original(*args, **options)

        return call

    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    monkeypatch.setattr(os, "replace", failing(os.replace, lambda *a, **k: True))
    monkeypatch.setattr(os, "open", failing(os.open, lambda path, how, *a, **k: bool(how & flags)))
    monkeypatch.setattr(
        builtins,
        "open",
        failing(open, lambda file, mode="r", *a, **k: set(mode) & set("wax+") and not isinstance(file, int)),
    )
    return done


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_changes_nothing(project, monkeypatch, error):
    """`register` writes ledger, fingerprints and state: each of its writes fails once, together with all later ones."""
    before = content(project.path)
    at = 1
    while True:
        with monkeypatch.context() as patch:
            breaks(patch, at, error)
            try:
                project.register([wanted(ids=["p9"])])
                break
            except ExpungeError as refusal:
                assert os.strerror(error) in str(refusal)
                committed = "the change is made" in str(refusal)
        if committed:
            # the state is renamed: the next command finishes the change
            assert len(project.status().requests) == 1
            break
        assert content(project.path) == before, at
        assert not list(project.path.glob(".work-*"))
        at += 1
    assert at > 3


def test_a_full_disk_during_a_run(project, monkeypatch):
    before = content(project.path)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("expunge.projects.delivery.write_report", full)
    refused(lambda: project.forget(ids=["p1", "p2"]), "No space left on device; make room on the disk")
    assert content(project.path) == before and not list(project.path.glob(".work-*"))


def test_a_full_disk_makes_no_project(office, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full)
    refused(lambda: Project.create(tmp_path / "new", checked(VALUES), office / "mine.pt"), "make room")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ("text:a.csv?test=b.csv&length=64", "text:{0}/a.csv?test={0}/b.csv&length=64"),
        ("images:a.csv?root=pictures&tokenizer=t", "images:{0}/a.csv?root={0}/pictures&tokenizer={0}/t"),
        ("webdataset:a-{0..3}.tar?test=b.tar", "webdataset:{0}/a-{0..3}.tar?test={0}/b.tar"),
        ("torchvision:CIFAR10?root=d", "torchvision:CIFAR10?root={0}/d"),
        ("hf:no-folder?text=body", "hf:no-folder?text=body"),
        ("mydata:data", "mydata:data"),
        ("digits?limit=5", "digits?limit=5"),
    ],
)
def test_every_path_of_a_spec_becomes_absolute(tmp_path, given, fixed):
    fixed = fixed.replace("{0}", str(tmp_path))
    found = fixed_paths({"data": given, "sign_key": "key"}, tmp_path)
    assert found == {"data": fixed, "sign_key": str(tmp_path / "key")}
    assert fixed_paths(found) == found


def test_relative_paths_begin_at_the_folder_of_the_settings(tmp_path, monkeypatch):
    (tmp_path / "a.csv").touch()
    settings = tmp_path / "expunge.toml"
    settings.write_text('data = "text:a.csv?test=b.csv"\nmodel = "mlp"\n')
    monkeypatch.chdir("/")
    refused(lambda: read_settings(settings), rf"^expunge.toml: data: test={tmp_path}/b.csv does not exist")
    (tmp_path / "b.csv").touch()
    assert read_settings(settings).data == f"text:{tmp_path}/a.csv?test={tmp_path}/b.csv"
