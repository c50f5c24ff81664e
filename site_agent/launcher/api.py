# SPDX-License-Identifier: Apache-2.0
"""What the agent asks of whatever starts its jobs. One contract suite runs on every launcher.

A launcher never decides and never guesses: whatever it cannot see for certain is UNKNOWN, and on UNKNOWN the agent
submits nothing. That a second execution of one allocation does no harm is the job's own claim's business.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class JobPresence(StrEnum):
    """What is known of a job that was submitted."""

    QUEUED = "queued"
    """It waits for its start, or after a requeue for its next one: nothing of it runs."""

    RUNNING = "running"

    ENDED = "ended"
    """It is certain that it doesn't run and never will again."""

    UNKNOWN = "unknown"
    """Cannot be told from here or now."""


@dataclass(frozen=True, kw_only=True)
class JobUsage:
    """What accounting says of one job.

    Attributes:
        elapsed_seconds: that its resources were held.
        num_gpus: of the whole job, as the scheduler counts them.
        state: the batch system's word for how it stands or ended, in capitals.
        reason: why it ended or waits, one word; "" if that is not known.
    """

    elapsed_seconds: float
    num_gpus: int
    num_nodes: int
    state: str
    reason: str = ""


class Launcher(ABC):
    """Starts, finds and stops the jobs of one site.

    Attributes:
        can_requeue: whether the batch system may start a job once more under its handle.
    """

    can_requeue: bool = False

    @abstractmethod
    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        """Starts one job on an allocation directory that holds a work order; returns its handle.

        Args:
            allocation_dir: absolute path; the job finds everything else from there.
            name: unique name of the allocation, by which `find` knows the job.
            fencing: number of this execution, higher than that of any before it on this allocation.
            begin_after_seconds: from now, before which it need not start; whoever cannot wait starts it at once.

        Raises:
            LaunchFailedError: the job was certainly not started.
            TransportError: it cannot be told whether it was: `find` will.
        """

    @abstractmethod
    def query(self, handle: str) -> JobPresence:
        """Whether the job of a handle is there. Never raises for a handle that this release did not make: UNKNOWN."""

    @abstractmethod
    def cancel(self, handle: str, *, force: bool = False) -> None:
        """Asks the job to finish at its next inner step (SIGTERM), or ends it at once. Does nothing if it is gone.

        Raises:
            TransportError: it cannot be asked now.
        """

    @abstractmethod
    def find(self, allocation_dir: Path, name: str) -> str | None:
        """Handle of a job of this allocation that was submitted by an agent which died before it noted the handle.

        None means that there certainly is no live one.

        Raises:
            TransportError: this cannot be told now.
        """

    def restarts(self, handle: str) -> int:
        """How often the batch system has started the job anew (a requeue), as far as that is known: never too high."""
        return 0

    def start_in_seconds(self, handle: str, now: float) -> int:
        """Seconds until the batch system expects a waiting job to start, at least 1; 0 if it does not say.

        `now`: unix seconds, this machine's clock.
        """
        return 0

    def usage(self, handle: str) -> JobUsage | None:
        """What accounting says of the job, None if there is none, or it doesn't know the job (yet)."""
        return None

    def earlier_seconds(self, handle: str) -> float | None:
        """What a live job used in executions before its last requeue, in seconds: never too low; None if not known."""
        return None

    def remark(self, handle: str) -> str:
        """What the batch system says about a job that waits, for people; "" if nothing."""
        return ""
