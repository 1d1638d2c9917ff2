"""What is shipped: extras, source distribution, conda recipe, images, and the checks of a release."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import expunge

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import release  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_that_of_the_installed_package():
    assert expunge.__version__ == "0+unknown" or re.match(r"\d+\.\d+", expunge.__version__)
    assert "version" in PROJECT["dynamic"], "the version comes from the tag, so no file may hold another one"


def test_all_has_every_extra_of_users():
    extras = PROJECT["optional-dependencies"]
    (everything,) = (Requirement(text) for text in extras["all"])
    assert everything.name == "expunge"
    assert everything.extras == set(extras) - {"all", "dev", "docs"}


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for():
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert "://" not in text
    names = {"torch": "pytorch"}
    wanted = {
        (names.get(r.name, canonicalize_name(r.name)), str(r.specifier))
        for r in map(Requirement, PROJECT["dependencies"])
    }
    given = [line.split(" ", 1) for line in recipe["requirements"]["run"]]
    assert {(canonicalize_name(name), limit) for name, limit in given if name != "python"} == wanted
    extras = {
        (r.name, str(r.specifier))
        for name, texts in PROJECT["optional-dependencies"].items()
        for r in map(Requirement, texts)
        if name not in ("all", "dev", "docs")
    }
    assert {tuple(line.split(" ", 1)) for line in recipe["requirements"]["run_constraints"]} <= extras
    assert recipe["build"]["python"]["entry_points"] == [
        f"{name} = {target}" for name, target in PROJECT["scripts"].items()
    ]
    assert recipe["about"]["summary"] == PROJECT["description"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_is_built_from_the_wheel_and_runs_without_root(name):
    lines = (ROOT / "packaging" / "docker" / name).read_text().splitlines()
    text = "\n".join(lines)
    extras = re.search(r"^ARG EXTRAS=(\S+)", text, re.M)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    assert "COPY" not in text and "/dist -name 'expunge-*.whl'" in text
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    assert lines.index("USER 1000") < lines.index('ENTRYPOINT ["expunge"]')
    assert ("TORCH_CPU_INDEX" in text) == (name == "Dockerfile"), (
        "only the CPU image takes torch from elsewhere"
    )
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert [line for line in ignored if line and line[0] != "#"] == ["*", "!dist/*.whl"]


CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added
- A thing.

## [0.1.0] - 2026-01-01
- The first.
"""


def test_the_notes_of_a_version_are_its_section_alone():
    assert release.section(CHANGELOG, "0.2.0") == "### Added\n- A thing."
    assert release.section(CHANGELOG, "0.1.0") == "- The first."
    assert release.section(CHANGELOG, "0.2") is None
    assert release.problems("v0.2.0", CHANGELOG, "cff-version: 1.2.0\nversion: 0.2.0\n") == []


@pytest.mark.parametrize(
    ("tag", "changelog", "citation", "words"),
    [
        ("0.2.0", CHANGELOG, "version: 0.2.0", ["not the tag of a release"]),
        ("v0.2", CHANGELOG, "version: 0.2", ["not the tag of a release"]),
        ("v0.3.0", CHANGELOG, "version: 0.3.0", ["no section '## [0.3.0]"]),
        ("v0.2.0", CHANGELOG, "version: 0.1.0", ["has version 0.1.0; set it to 0.2.0"]),
        ("v0.2.0", CHANGELOG, "cff-version: 1.2.0", ["has version nothing"]),
        ("v0.2.0", CHANGELOG.replace("- A thing.", ""), "version: 0.2.0", ["names no change"]),
        (
            "v0.2.0",
            CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n- More.\n"),
            "version: 0.2.0",
            ["unreleased"],
        ),
        ("v0.3.0", CHANGELOG, "version: 0.2.0", ["no section", "set it to 0.3.0"]),
    ],
)
def test_a_tag_that_does_not_fit_the_files_is_refused(tag, changelog, citation, words):
    found = release.problems(tag, changelog, citation)
    assert len(found) == len(words)
    assert all(word in fault for word, fault in zip(words, found, strict=True))


def test_a_refused_release_exits_with_1_and_prints_no_notes(capsys):
    assert release.main(["check", "v999.0.0"]) == 1
    assert release.main(["notes", "v999.0.0"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "no section '## [999.0.0]" in printed.err


def test_nothing_is_published_that_was_not_checked_and_tried():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert set(jobs["publish"]["needs"]) == {"build", "try", "images"}
    assert all("build" in jobs[name]["needs"] for name in ("try", "images"))
    assert jobs["try"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    uses = [step.get("uses", "") for step in jobs["publish"]["steps"]]
    assert any("attest-build-provenance" in name for name in uses)
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]


@pytest.mark.slow
def test_wheel_and_source_distribution_hold_the_package_alone_and_run_outside_a_checkout(tmp_path):
    """A real build with the tools of the environment, and the demo from the wheel alone."""
    build = "from setuptools import build_meta as b; import sys; getattr(b, sys.argv[1])(sys.argv[2])"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for hook in ("build_sdist", "build_wheel"):
        subprocess.run(
            [sys.executable, "-c", build, hook, str(tmp_path / "dist")],
            cwd=clone,
            check=True,
            capture_output=True,
        )
    (source,), (wheel,) = (list((tmp_path / "dist").glob(form)) for form in ("*.tar.gz", "*.whl"))
    with tarfile.open(source) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    top = {name.split("/")[0] for name in inside}
    assert top == {"CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md", "pyproject.toml",
                   "setup.cfg", "src"}  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert {name.split("/")[0] for name in files} == {"expunge", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    kinds = {Path(name).suffix for name in files if name.startswith("expunge/")}
    assert kinds == {".py", ".typed", ".html", ".css"}
    assert release.try_package(wheel, ["-c", str(ROOT / "constraints.txt")]) == []
