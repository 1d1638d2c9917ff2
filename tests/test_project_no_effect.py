"""What a project says at the end of a command: no shown effect and what to change, empty requests, the next step."""

from __future__ import annotations

import json

import pytest

from expunge.audit.confidence_change import ConfidenceChange
from expunge.cli.app import main
from expunge.errors import ExpungeError
from expunge.projects.no_effect import (
    NO_EFFECT,
    changes,
    direction_of,
    direction_without_effect,
    unshown_text,
)
from expunge.summaries import numbers_text, waiting_text
from project_office import office, project  # noqa: F401


def ids_file(tmp_path, *names):
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(names))
    return str(file)


@pytest.fixture
def shown(capsys):
    """What a command prints, on one line, after the check that it ends with 0."""

    def run(*command):
        assert main(list(command)) == 0
        return " ".join(capsys.readouterr().out.split())

    return run


@pytest.mark.filterwarnings("ignore")
def test_it_is_repeated_everywhere_and_the_advice_works(project, tmp_path, shown, monkeypatch):  # noqa: F811
    folder, ledger = str(project.path), str(project.path / "ledger.db")

    monkeypatch.setattr(ConfidenceChange, "warning", "The scores show nothing.")
    out = shown("forget", "--project", folder, "--ids", ids_file(tmp_path, "p1", "p2"))
    end = out[out.index("request 1 (") :]
    assert f"done request 1: {NO_EFFECT} to answer it better: first raise " in end
    # the settings of salun that tuning varies
    assert "lr" in end and f"expunge ledger attach {ledger} NUMBER --status open" in end
    assert f"expunge forget --project {folder} --pending" in end and end.index("lr") < end.index("next: ")
    for command in (["list", ledger], ["show", ledger, "1"]):
        assert f"{NO_EFFECT}; raise lr in " in shown("ledger", *command)
    assert "to answer such a request better: first change method or [settings] (raise lr or epochs" in shown(
        "status", "--project", folder
    )
    # the advice, and a run that shows an effect
    monkeypatch.setattr(ConfidenceChange, "warning", "")
    text = project.folder.settings_file.read_text()
    project.folder.settings_file.write_text(text.replace("lr = 0.005", "lr = 0.006"))
    shown("ledger", "attach", ledger, "1", "--status", "open")
    out = shown("forget", "--project", folder, "--pending")
    assert "done" in out and NO_EFFECT not in out
    assert NO_EFFECT not in shown("ledger", "list", ledger) + shown("status", "--project", folder)


def test_a_run_with_an_effect_says_none_of_it(project, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ConfidenceChange, "warning", "")
    assert main(["forget", "--project", str(project.path), "--ids", ids_file(tmp_path, "p1", "p2")]) == 0
    assert NO_EFFECT not in capsys.readouterr().out
    assert main(["ledger", "show", str(project.path / "ledger.db"), "1"]) == 0
    assert "note:" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_a_repeat_says_it_too_and_never_raises_too_much(project, tmp_path, shown, capsys, monkeypatch):  # noqa: F811
    folder, ledger = str(project.path), str(project.path / "ledger.db")

    monkeypatch.setattr(ConfidenceChange, "warning", "The scores show nothing.")
    shown("forget", "--project", folder, "--ids", ids_file(tmp_path, "p1", "p2"))
    out = shown("forget", "--project", folder, "--ids", ids_file(tmp_path, "p1"))
    assert f"request 2: {NO_EFFECT} to answer it better: first " in out and "raise lr" in out
    listed = shown("ledger", "list", ledger)
    assert f"nothing is run again; UA and MIA are those of request 1; {NO_EFFECT}." in listed
    assert listed.count(NO_EFFECT) == 2
    assert f"requests 1 and 2: {unshown_text([1, 2]).split(': ')[1]}" in (
        out := shown("status", "--project", folder)
    )
    assert "(raise lr or epochs" in out
    # the verdict of the run says that it did too much
    record = project.path / "models/0001.json"
    content = json.loads(record.read_text())
    content["details"]["requests"][0]["verdict"] = ["over-forgotten"]
    record.write_text(json.dumps(content))
    assert main(["status", "--project", folder]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "first change method or [settings] in expunge.toml; then" in out and "raise" not in out


def test_numbers_of_requests_become_ranges():
    assert numbers_text([]) == "" and numbers_text([7]) == "7" and numbers_text([1, 2]) == "1 and 2"
    assert numbers_text([1, 2, 5]) == "1, 2 and 5" and numbers_text([1, 2, 3]) == "1-3"
    assert numbers_text([1, *range(4, 41), 50]) == "1, 4-40 and 50"
    assert waiting_text(dict.fromkeys(range(1, 6), 2)).startswith(
        "request 1 (2 samples), request 2 (2 samples)"
    )
    assert waiting_text(dict.fromkeys(range(1, 41), 2)) == "requests 1-40 (2 samples each)"
    assert (
        waiting_text({**dict.fromkeys(range(1, 41), 2), 50: 1200})
        == "requests 1-40 and 50 (2 to 1,200 samples each)"
    )
    assert direction_without_effect([["unknown"], []]) == "raise"
    assert direction_without_effect([["unknown"], ["over-forgotten"]]) == ""


def test_the_settings_to_change_are_named():
    assert changes(["lr"]) == "change lr in [settings], or method, in expunge.toml"
    assert changes() == "change method or [settings] in expunge.toml"
    assert changes(["lr"], "lower") == "lower lr in [settings], or change method, in expunge.toml"
    assert changes(["lr", "epochs", "density"], "raise") == (
        "raise lr or epochs, or change density in [settings], or method, in expunge.toml"
    )
    assert changes(["alpha"], "raise") == "change alpha in [settings], or method, in expunge.toml"
    assert changes((), "raise") == (
        "change method or [settings] (raise lr or epochs where the method has them) in expunge.toml"
    )


@pytest.mark.parametrize(
    ("reasons", "direction"),
    [
        (
            [
                "the run cost 30.0 points of test accuracy, from 95.0 % to 65.0 %; at most 20 points are allowed"
            ],
            "lower",
        ),
        (
            [
                "the run changed the confidence in its samples by 0.010 points on average, and less than 0.1 counts as nothing"
            ],
            "raise",
        ),
        (
            [
                "the model still recognises 90.0 % of the samples that were to be unlearned, and 95.0 % before the run"
            ],
            "raise",
        ),
        (["the run cost 30.0 points of test accuracy", "the model still recognises 90.0 %"], ""),
        (["the run ended with the model that it began with"], ""),
    ],
)
def test_the_measured_outcome_gives_the_direction(reasons, direction):
    assert direction_of(reasons) == direction


@pytest.mark.parametrize("name", ["ids", "classes"])
def test_an_empty_list_is_refused(project, name):  # noqa: F811
    with pytest.raises(ExpungeError, match=f"{name} is an empty list, so the request asks for nothing"):
        project.forget(**{name: []})


def test_init_ends_with_the_next_step(office, tmp_path, capsys):  # noqa: F811
    command = [
        "init",
        str(tmp_path / "new"),
        "--checkpoint",
        str(office / "mine.pt"),
        "--data",
        "office_data:data",
    ]
    assert main([*command, "--model", "mlp"]) == 0
    start = f"next: `expunge forget --project {tmp_path / 'new'} --ids FILE --dry-run`"
    assert capsys.readouterr().out.splitlines()[-1].startswith(start)
    # the command is one that runs
    assert (
        main(["forget", "--project", str(tmp_path / "new"), "--ids", ids_file(tmp_path, "p1"), "--dry-run"])
        == 0
    )
