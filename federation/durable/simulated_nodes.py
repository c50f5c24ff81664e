# SPDX-License-Identifier: Apache-2.0
"""Files and directories in memory, each with what is visible and what would survive a power loss."""

from random import Random
from typing import TypeAlias


class SimulatedFile:
    """An inode: visible content, how much of it is durable, and durable bytes that unsynced changes took away.

    Content written at once is kept as the caller's own bytes object; nothing large is copied.
    """

    __slots__ = ("content", "cut", "durable_bytes", "replaced")

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.content = content
        self.durable_bytes = 0
        self.cut = b""
        self.replaced: list[tuple[int, bytes]] = []
        """Offset and durable bytes that each unsynced overwrite replaced, in order."""

    def append(self, data: bytes | bytearray | memoryview) -> None:
        if not self.content and isinstance(data, bytes):
            self.content = data
            return
        if isinstance(self.content, bytes):
            self.content = bytearray(self.content)
        self.content += data

    def truncate(self, length: int) -> None:
        if length < self.durable_bytes:
            self.cut = bytes(self.content[length : self.durable_bytes]) + self.cut
            self.durable_bytes = length
        self.content = self.content[:length]

    def resize(self, length: int) -> None:
        """Cuts, or extends with zeros."""
        missing = length - len(self.content)
        if missing > 0:
            self.append(bytes(missing))
        else:
            self.truncate(length)

    def overwrite(self, offset: int, data: memoryview) -> None:
        """Replaces bytes that are there."""
        end = offset + len(data)
        if offset < self.durable_bytes:
            self.replaced.append((offset, bytes(self.content[offset : min(end, self.durable_bytes)])))
        if isinstance(self.content, bytes):
            self.content = bytearray(self.content)
        self.content[offset:end] = data

    def sync(self) -> None:
        self.durable_bytes = len(self.content)
        self.cut = b""
        self.replaced = []

    def read(self) -> bytes:
        if not isinstance(self.content, bytes):
            self.content = bytes(self.content)
        return self.content

    def after_power_loss(self, random: Random) -> "SimulatedFile":
        """The same inode after a reboot; all that is left of it is durable."""
        content = _written_back(self.read(), self.replaced, random)
        if self.durable_bytes < len(content):
            content = content[: self.durable_bytes] + _torn(content[self.durable_bytes :], random)
        elif self.cut and random.random() < 0.5:
            content += self.cut
        file = SimulatedFile(content)
        file.sync()
        return file


def _written_back(content: bytes, replaced: list[tuple[int, bytes]], random: Random) -> bytes:
    """What is left of overwrites that were never fsynced: of each one all, none, or the beginning."""
    if not replaced:
        return content
    found = bytearray(content)
    for offset, old in reversed(replaced):
        old = old[: max(0, len(content) - offset)]  # cut off since
        kept = (len(old), 0, random.randrange(len(old) + 1))[random.randrange(3)]
        found[offset + kept : offset + len(old)] = old[kept:]
    return bytes(found)


def _torn(tail: bytes, random: Random) -> bytes:
    """What is left of bytes that were never fsynced: all, none, a part, or a part that ends in zeros."""
    kind = random.randrange(4)
    if kind == 0:
        return b""
    if kind == 1:
        return tail
    kept = random.randrange(len(tail))
    if kind == 2:
        return tail[:kept]
    return tail[:kept] + bytes(len(tail) - kept)


class SimulatedDirectory:
    """A directory: visible names, durable names, and the changes between the two in order."""

    __slots__ = ("durable", "names", "pending")

    MAX_PENDING = 1024
    """Beyond this many changes the oldest half is written back, as a kernel does after some seconds."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.pending: list[Change] = []

    def add(self, change: "Change") -> None:
        """Makes a change visible, not durable."""
        for name, node in change.steps:
            if node is None:
                self.names.pop(name, None)
            else:
                self.names[name] = node
        self.pending.append(change)
        if len(self.pending) > self.MAX_PENDING:
            self.write_back(self.MAX_PENDING // 2)

    def write_back(self, num_changes: int) -> None:
        """Makes the oldest changes durable."""
        for change in self.pending[:num_changes]:
            change.make_durable()
        del self.pending[:num_changes]

    def sync(self) -> None:
        """fsync: makes every change durable."""
        self.write_back(len(self.pending))


Node: TypeAlias = SimulatedFile | SimulatedDirectory


class Change:
    """Names set and removed in one directory at once; `after` must be durable if this is."""

    __slots__ = ("after", "directory", "done", "number", "steps")

    def __init__(
        self, number: int, directory: SimulatedDirectory, steps: list[tuple[str, Node | None]], after: "Change | None"
    ) -> None:
        self.number = number
        self.directory = directory
        self.steps = steps
        self.after = after
        self.done = False

    def make_durable(self) -> None:
        """Applies this change, and before it everything that it rests on."""
        if self.done:
            return
        if self.after is not None and not self.after.done:
            earlier = self.after.directory.pending
            for change in earlier[: earlier.index(self.after) + 1]:
                change.make_durable()
        self.done = True
        for name, node in self.steps:
            if node is None:
                self.directory.durable.pop(name, None)
            else:
                self.directory.durable[name] = node


def survivors(root: SimulatedDirectory, pending: list[Change], random: Random) -> SimulatedDirectory:
    """The tree below `root` after a power loss.

    Args:
        root: the root directory.
        pending: every change not yet durable, in the order in which they were made.
        random: decides what was written back in time.
    """
    lost: set[tuple[int, str]] = set()
    for change in pending:
        if change.done:
            continue
        names = [(id(change.directory), name) for name, _ in change.steps]
        # A change cannot survive if an earlier one of the same name did not, or if it rests on a lost one.
        rests_on_lost = (change.after is not None and not change.after.done) or any(name in lost for name in names)
        if rests_on_lost or random.random() < 0.5:
            lost.update(names)
        else:
            change.make_durable()
    return _rebuilt(root, {}, random)


def _rebuilt(
    directory: SimulatedDirectory, files: dict[SimulatedFile, SimulatedFile], random: Random
) -> SimulatedDirectory:
    """Copies what is durable below a directory; two names of one inode stay two names of one inode."""
    copy = SimulatedDirectory()
    for name, child in directory.durable.items():
        if isinstance(child, SimulatedDirectory):
            copy.durable[name] = _rebuilt(child, files, random)
        else:
            if child not in files:
                files[child] = child.after_power_loss(random)
            copy.durable[name] = files[child]
    copy.names = dict(copy.durable)
    return copy
