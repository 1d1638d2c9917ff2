"""The files around the code: they can be parsed, and they agree with the package."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
# the audit of dependencies runs on one system
WORKFLOWS = [ROOT / ".github/workflows" / name for name in ("checks.yml", "tests.yml")]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflow_runs_on_all_systems_and_pythons(path):
    jobs = read(path)["jobs"]
    # `make torture` counts processes in /proc and follows system calls, so it runs on Linux alone
    jobs.pop("torture", None)
    (job,) = jobs.values()
    matrix = job["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"
    commands = [step["run"] for step in job["steps"] if "run" in step]
    install = next(k for k, c in enumerate(commands) if ".[dev]" in c)
    assert any(" torch" in c for c in commands[:install])


def test_the_torture_job_is_the_make_target_in_its_short_form():
    job = read(ROOT / ".github/workflows/tests.yml")["jobs"]["torture"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    target = re.search(
        r"^torture:.*\n\t\$\(BIN\)/(.*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M
    )
    assert commands[-1].startswith(f"{target[1]} --minutes 10 ")


def test_checks_are_those_of_make():
    (job,) = read(ROOT / ".github/workflows/checks.yml")["jobs"].values()
    commands = {step["run"] for step in job["steps"] if "run" in step}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    made = {line.strip().removeprefix("$(BIN)/") for line in recipe[1].splitlines()}
    assert made <= commands
    hooks = {hook["id"] for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert hooks == {"ruff", "ruff-format", "mypy", "codespell"}


@pytest.mark.parametrize("path", [p for p in FORMS if p.name != "config.yml"], ids=lambda p: p.name)
def test_issue_form_has_what_a_form_needs(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    names = [field["id"] for field in fields]
    assert names and len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in fields)


def test_citation_agrees_with_the_package():
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    # tools/release.py compares the version with the tag
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(citation["version"]))
    assert citation["license"] == PROJECT["license"]
