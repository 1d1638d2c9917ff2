"""The locks fit the project, hold only hashes of SHA-256, and name no host; the workflows run what the pages say."""

import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import lock  # noqa: E402


@pytest.fixture(scope="module")
def dev():
    return lock.DEV.read_text()


def test_both_locks_fit_what_is_asked_for():
    assert lock.check() == []
    assert len(lock.blocks(lock.DEV.read_text())) > 80


def faults(text, direct=(), constraints=()):
    return lock.problems(text, [Requirement(t) for t in direct], [Requirement(t) for t in constraints])


HASH = "--hash=sha256:" + "0" * 64


def test_each_fault_of_a_lock_is_found():
    good = f"rich==14.2.0 \\\n    {HASH}\nnumpy==2.4.0 ; python_full_version < '3.12' \\\n    {HASH}\n"
    assert faults(good, ["rich>=14", "numpy>=2"], ["numpy==2.4.0"]) == []
    assert "not locked" in faults(good, ["scipy>=1"])[0]
    assert "rich>=15 is required" in faults(good, ["rich>=15"])[0]
    assert "numpy==2.5 is required" in faults(good, [], ["numpy==2.5"])[0]
    assert "no SHA-256" in faults("rich==14.2.0\n")[0]
    assert "no SHA-256" in faults("rich==14.2.0 \\\n    --hash=md5:00\n")[0]
    for host in ("--index-url x\n", "a @ https://host/a.whl\n", "# from pypi.org\n"):
        assert "names a host" in faults(host + good)[0]
    for name in ("torch", "triton", "nvidia-cublas", "cuda-bindings"):
        assert "another index" in faults(f"{name}==1.0 \\\n    {HASH}\n")[0]
    assert faults(f"torchmetrics==1.0 \\\n    {HASH}\n") == []


def test_the_real_lock_without_the_hashes_of_one_package_is_refused(dev):
    (name, version), lines = next(iter(lock.blocks(dev).items()))
    cut = dev.replace("\n".join(lines), f"{name}=={version}")
    assert cut != dev and any(p.startswith(f"{name}==") for p in faults(cut)) and not faults(dev)


def test_the_requirements_of_dev_are_all_followed():
    names = {r.name for r in lock.wanted(ROOT / "pyproject.toml")}
    assert {"torch", "pyarrow", "diffusers", "cryptography", "pytest-random-order", "numpy"} <= names
    assert "expunge" not in names


def test_ci_audits_every_locked_file_and_shuffles_the_tests():
    flows = {p.stem: yaml.safe_load(p.read_text()) for p in (ROOT / ".github" / "workflows").glob("*.yml")}
    steps = [s.get("run", "") for job in flows["supply-chain"]["jobs"].values() for s in job["steps"]]
    for file in ("requirements-dev.lock", "tools/supply.lock", "constraints.txt"):
        assert any(s.startswith("pip-audit --strict") and s.endswith(f"-r {file}") for s in steps)
    assert any("make sbom LOCKED=1" in s for s in steps)
    tests = " ".join(s.get("run", "") for s in flows["tests"]["jobs"]["tests"]["steps"])
    assert "--random-order " in tests and "--random-order-seed=${{ github.run_id }}" in tests
    makefile = (ROOT / "Makefile").read_text()
    assert "$(ORDER)" in makefile and "--random-order-seed=$(SEED)" in makefile
