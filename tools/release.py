"""What a release needs: its tag checked against the files, its notes, and the packages tried where a user would install them.

    python tools/release.py check v0.2.0         # exit with 1 if tag, CHANGELOG.md and CITATION.cff do not agree; all faults at once
    python tools/release.py notes v0.2.0         # print the section of CHANGELOG.md
    python tools/release.py try dist/*.whl       # install it in a new environment, count the packages, run the demo in another folder

`.github/workflows/release.yml` runs all three for a tag. docs/install.md says how a release is made.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
# packages that `pip install expunge` may bring, itself included; the CUDA packages of torch and pip itself do not count
MOST_PACKAGES = 40
NOT_COUNTED = re.compile(r"(pip|setuptools|triton|nvidia-.+|cuda-.+)$")


def section(changelog: str, version: str) -> str | None:
    """Return what CHANGELOG.md says of a version, without its heading, or None if it has no such section."""
    found = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    return found[1].strip() if found else None


def problems(tag: str, changelog: str, citation: str) -> list[str]:
    """Return why a tag cannot be released, one sentence each."""
    match = TAG.fullmatch(tag)
    if not match:
        return [f"{tag} is not the tag of a release; name it vX.Y.Z, or vX.Y.ZrcN for a release candidate."]
    version, found = match[1], []
    notes = section(changelog, version)
    if notes is None:
        found.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'; rename the section Unreleased.")
    elif not re.search(r"^- ", notes, re.M):
        found.append(f"the section [{version}] of CHANGELOG.md names no change; say what users notice.")
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    if unreleased and unreleased[1].strip():
        found.append(f"CHANGELOG.md still has unreleased changes; move them to the section [{version}].")
    cited = re.search(r"^version: *[\"']?([^\s\"']+)", citation, re.M)
    if not cited or cited[1] != version:
        found.append(f"CITATION.cff has version {cited[1] if cited else 'nothing'}; set it to {version}.")
    return found


def try_package(package: Path, extra_arguments: list[str]) -> list[str]:
    """Install a wheel or a source distribution in a new environment, run its demo elsewhere, and return what went wrong."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(Path(place) / "venv", with_pip=True)
        python = next(
            path
            for path in (Path(place) / "venv/bin/python", Path(place) / "venv/Scripts/python.exe")
            if path.exists()
        )
        install = [python, "-m", "pip", "install", "-q", *extra_arguments, package.resolve()]
        if subprocess.run(install, cwd=place).returncode:
            return [f"{package.name} does not install."]
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, cwd=place, check=True
        )
        names = [line.split("==")[0] for line in listed.stdout.splitlines()]
        names = [name for name in names if name and not NOT_COUNTED.match(name)]
        print(f"{package.name}: {len(names)} packages: {', '.join(names)}")
        found = []
        if len(names) > MOST_PACKAGES:
            found.append(f"{package.name} brings {len(names)} packages; at most {MOST_PACKAGES} are allowed.")
        demo = subprocess.run([python, "-m", "expunge", "demo", "--out", "demo"], cwd=place)
        if demo.returncode or not (Path(place) / "demo" / "report.html").is_file():
            found.append(f"the demo of {package.name} ended with {demo.returncode} in a folder that is no checkout.")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "notes"):
        commands.add_parser(name).add_argument("tag")
    command = commands.add_parser("try")
    command.add_argument("packages", nargs="+", type=Path)
    command.add_argument("--pip", action="append", default=[], help="a further argument of pip install")
    given = parser.parse_args(arguments)
    if given.command == "try":
        found = [fault for package in given.packages for fault in try_package(package, given.pip)]
    else:
        changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        found = problems(given.tag, changelog, (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
        if given.command == "notes" and not found:
            print(section(changelog, given.tag[1:]))
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
