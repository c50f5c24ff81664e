# SPDX-License-Identifier: Apache-2.0
"""Durable files in memory, with what POSIX promises after a crash and nothing more.

Content that was not fsynced comes back complete, cut, with holes of zeros, or not at all; names that were not made
durable by an fsync of their directory may be there or not, each by itself; a rename is atomic. Which of it happens is
drawn from the seed. The steps run in the order of `federation.durable.sequences`, so a forgotten fsync shows here.
"""

from collections.abc import Callable

from federation.durable.sequences import SequencedFileSystem
from federation.durable.simulated_disk import SimulatedCrash, SimulatedDisk

__all__ = ["SimulatedCrash", "SimulatedFileSystem"]


class SimulatedFileSystem(SequencedFileSystem):
    """One machine's disk.

    Attributes:
        hook: called as `hook(step, path)` before every single step that changes the disk; it may raise
            `SimulatedCrash`, and from then on the machine is down: whatever cleans up on the way out changes nothing.
            Steps: make-directory, create-file, write, truncate, sync-file, sync-directory, rename, link, unlink,
            remove-directory.
    """

    def __init__(self, seed: int = 0, *, _disk: SimulatedDisk | None = None) -> None:
        self._simulated = _disk if _disk is not None else SimulatedDisk(seed)
        super().__init__(self._simulated)

    @property
    def hook(self) -> Callable[[str, str], None] | None:
        """What is called before every step; None for nothing."""
        return self._simulated.hook

    @hook.setter
    def hook(self, hook: Callable[[str, str], None] | None) -> None:
        self._simulated.hook = hook

    @property
    def operations(self) -> int:
        """Steps begun so far on this instance."""
        return self._simulated.operations

    def crash(self) -> "SimulatedFileSystem":
        """Power loss: this instance is down; returns what the machine finds after the reboot."""
        return SimulatedFileSystem(_disk=self._simulated.after_power_loss())

    def kill(self) -> "SimulatedFileSystem":
        """SIGKILL of the process: the page cache stays, so the next process sees all, but no more of it is durable."""
        return SimulatedFileSystem(_disk=self._simulated.after_kill())

    def power_off(self) -> None:
        """Every operation of this instance from here on raises SimulatedCrash."""
        self._simulated.down = True

    def fail_writes_after(self, num_bytes: int | None) -> None:
        """The disk takes `num_bytes` more, then it is full; None makes it endless again. Removing frees nothing."""
        self._simulated.room_bytes = num_bytes

    def write_unsynced(self, path: str, data: bytes) -> None:
        """What a careless other process does: replaces a file without any fsync."""
        self._simulated.write_unsynced(path, data)
