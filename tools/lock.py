"""Lock what developers and CI install: exact versions with the SHA-256 of every file.

    python tools/lock.py            # write requirements-dev.lock and tools/supply.lock anew (needs uv and a package index)
    python tools/lock.py --check    # exit with 1 if a lock does not fit pyproject.toml, constraints.txt or tools/supply.in

torch and its CUDA packages are left out: the CPU build comes from another index and has other hashes on each platform. `make` installs
torch after the lock, in the version of constraints.txt, without a hash.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DEV, SUPPLY = ROOT / "requirements-dev.lock", ROOT / "tools" / "supply.lock"
# torch, and what only its CUDA build needs
NOT_LOCKED = re.compile(r"(torch|triton|nvidia-.+|cuda-.+)$")
HEADER = """# Made by tools/lock.py (`make lock`). Do not edit.
# torch and its CUDA packages are not here: `make` installs torch in the version of constraints.txt.
"""


def blocks(text: str) -> dict[tuple[str, str], list[str]]:
    """Return {(name, version and marker): lines of its entry} of a lock."""
    found: dict[tuple[str, str], list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)==(\S+(?: ; [^\\]+)?)", line):
            current = found.setdefault((str(canonicalize_name(match[1])), match[2].strip()), [])
        if not line.startswith("#") and line.strip():
            current.append(line)
    return found


def wanted(source: Path) -> list[Requirement]:
    """Return the direct requirements of a lock: those of `.[dev]`, or the lines of a file."""
    if source.name != "pyproject.toml":
        return [Requirement(line) for line in source.read_text().splitlines() if line and line[0] != "#"]
    project = tomllib.loads(source.read_text())["project"]
    extras = project["optional-dependencies"]
    found, pending = [], [Requirement(text) for text in [*project["dependencies"], *extras["dev"]]]
    while pending:
        requirement = pending.pop()
        if requirement.name == project["name"]:
            pending += [Requirement(text) for extra in requirement.extras for text in extras[extra]]
        else:
            found.append(requirement)
    return found


def problems(lock: str, direct: list[Requirement], constraints: list[Requirement]) -> list[str]:
    """Return what is wrong with the text of a lock, one sentence each."""
    entries = blocks(lock)
    found = []
    for (name, version), lines in entries.items():
        hashes = re.findall(r"--hash=(\w+):([0-9a-f]+)", "".join(lines))
        if not hashes or any(kind != "sha256" or len(value) != 64 for kind, value in hashes):
            found.append(f"{name}=={version} has no SHA-256, or another hash; run make lock.")
        if NOT_LOCKED.match(name):
            found.append(f"{name} is locked, but comes from another index; run make lock.")
    if re.search(r"\w://|--(?:extra-)?index|--find-links|\.(?:org|com|io|net)\b", lock):
        found.append("the lock names a host or an index; run make lock.")
    for requirement in [*direct, *constraints]:
        versions = [v.split(" ;")[0] for n, v in entries if n == canonicalize_name(requirement.name)]
        needed = requirement in direct and not NOT_LOCKED.match(requirement.name)
        if needed and not versions:
            found.append(f"{requirement} is not locked; run make lock.")
        found += [
            f"{requirement.name}=={version} is locked, but {requirement} is required; run make lock."
            for version in versions
            if not requirement.specifier.contains(version, prereleases=True)
        ]
    return found


def check() -> list[str]:
    """Return what is wrong with both locks."""
    constraints = wanted(ROOT / "constraints.txt")
    return [
        *problems(DEV.read_text(), wanted(ROOT / "pyproject.toml"), constraints),
        *problems(SUPPLY.read_text(), wanted(ROOT / "tools" / "supply.in"), constraints),
    ]


def write(source: Path, target: Path, *options: str) -> None:
    """Resolve requirements for all supported Pythons and systems, and write the lock."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--constraint", "constraints.txt", *options, str(source.relative_to(ROOT))]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kept = [line for (name, _), lines in blocks(made).items() if not NOT_LOCKED.match(name) for line in lines]
    target.write_text(HEADER + "\n".join(kept) + "\n")


def main() -> int:
    """Write or check the locks."""
    if "--check" not in sys.argv:
        write(ROOT / "pyproject.toml", DEV, "--extra", "dev")
        write(ROOT / "tools" / "supply.in", SUPPLY)
    for problem in (found := check()):
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
