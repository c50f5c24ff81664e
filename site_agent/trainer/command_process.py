# SPDX-License-Identifier: Apache-2.0
"""Runs a site's executable for one window: a filtered environment, signals handed on, no process left behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.errors import JobFailedError
from site_agent.trainer import command_guard

WORK_ORDER_VARIABLE: Final = "FEDERATION_WORK_ORDER"
"""Path of `work_order.json`, for the executable."""

LOOK_SECONDS: Final = 0.2
"""Between two looks whether the executable has ended or should."""

LATE_LOOKS: Final = 5

GRACE_SECONDS: Final = 100.0
"""For the executable to end after SIGTERM; less than an agent's `stop_grace_seconds`, after which the job is killed."""

_PASSED_ON: Final = frozenset(
    {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER"}
    | {"VIRTUAL_ENV", "FEDERATION_NO_NETWORK"}
)
_PASSED_ON_PREFIXES: Final = (
    "APPTAINER_",
    "CUDA_",
    "FI_",
    "GLOO_",
    "GOMP_",
    "HIP_",
    "HSA_",
    "KMP_",
    "MIOPEN_",
    "MKL_",
    "NCCL_",
    "OMP_",
    "RCCL_",
    "ROCR_",
    "SINGULARITY_",
    "SLURM_",
    "UCX_",
)
_SECRETS: Final = ("CREDENTIAL", "JWT", "KEY", "PASSW", "SECRET", "TOKEN")
"""In a name: whatever its prefix, it is not passed on."""


class CommandFailedError(JobFailedError):
    """The site's executable did not do its work.

    Its words are in the job's log and nowhere else: what is said here may leave the site.
    """


@dataclass(frozen=True, kw_only=True)
class CommandEnd:
    """How the executable ended.

    Attributes:
        code: exit status, or minus the number of the signal that killed it.
        word: why it had been asked to end, "" if it had not.
    """

    code: int
    word: str = ""

    def describe(self) -> str:
        """In words that hold nothing of the executable's own."""
        if self.code >= 0:
            return f"exit status {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


def command_environment(environment: Mapping[str, str], work_order: Path) -> dict[str, str]:
    """The environment that the executable gets out of the job's.

    Neither torchrun's variables nor any of the federation's own but one: the executable is no rank of the job.
    """
    passed = {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or (name.startswith(_PASSED_ON_PREFIXES) and not any(word in name for word in _SECRETS))
    }
    return {**passed, WORK_ORDER_VARIABLE: str(work_order)}


def run_command(
    argv: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    meanwhile: Callable[[], str | None],
    grace_seconds: Callable[[], float] = lambda: GRACE_SECONDS,
) -> CommandEnd:
    """Runs it to its end. What it prints goes to this process's standard error.

    Args:
        directory: to run it in.
        meanwhile: called now and then; a word asks the executable to end, by SIGTERM, once.
        grace_seconds: asked then: seconds until it is killed.

    Raises:
        FederationError: what `meanwhile` raises; the executable is killed then.
    """
    word, deadline = "", float("inf")
    with running_command(argv, directory, environment) as guard:
        while (code := _wait(guard)) is None:
            if not word and (asked := meanwhile()):
                word, deadline = asked, time.monotonic() + grace_seconds()
                guard.terminate()
            elif word and time.monotonic() > deadline:
                _let_go(guard)
    if code and not word:
        word = _word_that_came_late(meanwhile)
    return CommandEnd(code=code, word=word)


def _word_that_came_late(meanwhile: Callable[[], str | None]) -> str:
    """A batch system signals all processes of a job: the executable may have died of it before we looked."""
    for _ in range(LATE_LOOKS):
        if word := meanwhile():
            return word
        time.sleep(LOOK_SECONDS)
    return ""


@contextmanager
def running_command(
    argv: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """A guarded process that runs it; at the end of the block it is killed if it has not ended."""
    sys.stderr.flush()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(command_guard.__file__)), *argv],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=2,
        stderr=2,
        start_new_session=True,
    )
    try:
        yield guard
    finally:
        _let_go(guard)
        guard.wait()


def _wait(guard: "subprocess.Popen[bytes]") -> int | None:
    try:
        return guard.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _let_go(guard: "subprocess.Popen[bytes]") -> None:
    """Closes the pipe: the guard kills the executable's whole group."""
    with suppress(OSError):
        if guard.stdin is not None:
            guard.stdin.close()
