"""Freed memory that stays: shown by the page faults of a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from expunge.torch_utils.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    if not keep_freed_memory():
        sys.exit(3)
def step():
    x = torch.ones(10 << 20)  # 40 MB: more than glibc ever keeps by itself
    return (x + x).sum()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("not glibc: there is nothing to ask")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults of Linux")
def test_the_second_step_uses_the_memory_of_the_first():
    assert faults("keep") < faults("default") / 4


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="elsewhere than on Linux")
def test_elsewhere_nothing_happens():
    from expunge.torch_utils.allocator import keep_freed_memory

    assert not keep_freed_memory()
