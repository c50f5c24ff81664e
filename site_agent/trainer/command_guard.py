# SPDX-License-Identifier: Apache-2.0
"""Stands between a job and a site's executable: `python -I command_guard.py EXECUTABLE [ARGUMENT ...]`.

Standard input is a pipe whose other end only the job holds. When the job is gone, however it died, so is the
executable, with everything of its process group. Signals are handed on to the executable; when it has ended, what it
left of its group is killed, so that nobody writes into its files any more, and this process ends as it ended.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

EXIT_NOT_STARTED = 127
"""As a shell says it: there is no such executable, or it may not be run."""


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _watch_the_job(group: int) -> None:
    """Blocks until the job's end of the pipe is closed."""
    while os.read(0, 1):
        pass
    _kill_group(group)


def main(argv: list[str]) -> int:
    """The exit status; not reached where the executable died by a signal."""
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_STARTED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    threading.Thread(target=_watch_the_job, args=(child.pid,), daemon=True).start()
    code = child.wait()
    _kill_group(child.pid)
    if code < 0:
        with suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # the thread still reads the pipe
