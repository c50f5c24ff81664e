# SPDX-License-Identifier: Apache-2.0
"""What the agent asks of whatever starts its jobs. One contract suite runs on every launcher.

A launcher never decides and never guesses: whatever it cannot see for certain is UNKNOWN, and on UNKNOWN the agent
submits nothing. That a second execution of one allocation does no harm is the job's own claim's business.
"""

from abc import ABC, abstractmethod
from enum import StrEnum
from pathlib import Path


class JobPresence(StrEnum):
    """What is known of a job that was submitted."""

    RUNNING = "running"
    """It waits in a queue or runs."""

    ENDED = "ended"
    """It is certain that it doesn't run and never will again."""

    UNKNOWN = "unknown"
    """Cannot be told from here or now."""


class Launcher(ABC):
    """Starts, finds and stops the jobs of one site."""

    @abstractmethod
    def submit(self, allocation_dir: Path, name: str, fencing: int) -> str:
        """Starts one job on an allocation directory that holds a work order; returns its handle.

        Args:
            allocation_dir: absolute path; the job finds everything else from there.
            name: unique name of the allocation, by which `find` knows the job.
            fencing: number of this execution, higher than that of any before it on this allocation.

        Raises:
            LaunchFailedError: the job was not started.
        """

    @abstractmethod
    def query(self, handle: str) -> JobPresence:
        """Whether the job of a handle is there. Never raises for a handle that this release did not make: UNKNOWN."""

    @abstractmethod
    def cancel(self, handle: str, *, force: bool = False) -> None:
        """Asks the job to finish at its next inner step (SIGTERM), or ends it at once. Does nothing if it is gone."""

    @abstractmethod
    def find(self, allocation_dir: Path, name: str) -> str | None:
        """Handle of a live job of this allocation that was submitted by an agent which died before it noted the handle.

        None means that there certainly is none.

        Raises:
            PeerUnavailableError: this cannot be told now.
        """
