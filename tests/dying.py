"""Run code in a child process that is killed at one of its system calls."""

import os
import signal


def dies_at(name, at, action):
    """Run `action` in a child process that SIGKILL ends at its call number `at` of `os.NAME`. Return its exit code: 0 or -9."""
    child = os.fork()
    if not child:
        original, calls = getattr(os, name), 0

        def dying(*args, **options):
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        setattr(os, name, dying)
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code
