"""Worker processes of `bench --jobs` end with the process that started them, however it ends."""

import os
import select
import signal
import time
from contextlib import suppress
from multiprocessing import get_context

import pytest

from expunge.bench.scheduler import _begin_worker

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of the test are forks")


def _work(folder, begin):
    """Be a worker that waits for its next job."""
    begin()
    (folder / "worker").write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize(("begin", "ends"), [(_begin_worker, True), (lambda: None, False)])
def test_a_worker_ends_when_the_process_that_started_it_is_killed(tmp_path, begin, ends):
    """The control: a worker without this goes on. The end of a pipe that both hold shows when both are gone."""
    ours, theirs = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(ours)
        get_context("fork").Process(target=_work, args=(tmp_path, begin)).start()
        time.sleep(60)
        os._exit(0)
    os.close(theirs)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "worker").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        gone, _, _ = select.select([ours], [], [], 60 if ends else 0.5)
        assert bool(gone) == ends
    finally:
        os.close(ours)
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
