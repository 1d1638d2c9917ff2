"""Freed memory stays in the process, as the page faults of a child process show."""

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


def page_faults(mode):
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("the C library is not glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow  # two processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the page faults of Linux")
def test_the_second_step_uses_the_memory_of_the_first():
    assert page_faults("keep") < page_faults("default") / 4


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="only on other systems than Linux")
def test_other_systems_are_left_unchanged():
    from expunge.torch_utils.allocator import keep_freed_memory

    assert not keep_freed_memory()
