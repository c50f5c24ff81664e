# SPDX-License-Identifier: Apache-2.0
"""The file systems against a dictionary: any sequence of operations, any kill, any power loss."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from federation.durable.api import Appender
from federation.durable.real import RealFileSystem
from federation.durable.sequences import SequencedFileSystem
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem

PATHS = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "f/a"])
LOGS = st.sampled_from(["log/0", "log/1"])
DATA = st.binary(max_size=6)


class AgainstDictionary(RuleBasedStateMachine):
    """What every backend shows after operations that all succeed; `model` maps paths to content."""

    fs: SequencedFileSystem

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, bytes] = {}
        self.fs = self.make()

    def make(self) -> SequencedFileSystem:
        raise NotImplementedError

    @rule(path=PATHS, data=DATA)
    def write(self, path: str, data: bytes) -> None:
        self.fs.write(path, data)
        self.model[path] = data

    @rule(path=PATHS, data=DATA)
    def create(self, path: str, data: bytes) -> None:
        assert self.fs.create(path, data) == (path not in self.model)
        self.model.setdefault(path, data)

    @rule(path=PATHS, pieces=st.lists(DATA, max_size=3), publish=st.booleans())
    def stream(self, path: str, pieces: list[bytes], publish: bool) -> None:
        with self.fs.writer() as writer:
            for piece in pieces:
                writer.write(piece)
            if publish:
                writer.publish(path)
                self.model[path] = b"".join(pieces)

    @rule(path=LOGS, pieces=st.lists(DATA, max_size=3))
    def append(self, path: str, pieces: list[bytes]) -> None:
        appender: Appender = self.fs.appender(path)
        self.model.setdefault(path, b"")
        for piece in pieces:
            appender.append(piece)
        appender.sync()
        appender.close()
        self.model[path] += b"".join(pieces)

    @rule(num_bytes=st.integers(0, 9), writes=st.lists(st.tuples(st.integers(0, 9), DATA), max_size=3))
    def write_anywhere(self, num_bytes: int, writes: list[tuple[int, bytes]]) -> None:
        content = bytearray(self.model.get("log/random", b"")[:num_bytes].ljust(num_bytes, b"\0"))
        writer = self.fs.random_writer("log/random", num_bytes)
        for offset, data in writes:
            if offset + len(data) <= num_bytes:
                writer.write_at(offset, data)
                content[offset : offset + len(data)] = data
        writer.sync()
        writer.close()
        self.model["log/random"] = bytes(content)

    @rule(path=LOGS, length=st.integers(0, 20))
    def truncate(self, path: str, length: int) -> None:
        if length <= len(self.model.get(path, b"")) and path in self.model:
            self.fs.truncate(path, length)
            self.model[path] = self.model[path][:length]

    @rule(old=PATHS, new=PATHS)
    def link(self, old: str, new: str) -> None:
        if old in self.model:
            self.fs.link(old, new)
            self.model.setdefault(new, self.model[old])

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        if old in self.model:
            self.fs.rename(old, new)
            self.model[new] = self.model.pop(old)

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        sibling = path[:-1] + "z"
        self.fs.remove(path)
        self.fs.write(sibling, b"")  # fsyncs the directory, which makes the removal durable
        self.model.pop(path, None)
        self.model[sibling] = b""

    @rule(path=st.sampled_from(["d", "d/e", "f"]))
    def remove_tree(self, path: str) -> None:
        self.fs.remove_tree(path)
        self.model = {name: data for name, data in self.model.items() if not name.startswith(path + "/")}

    def visible(self, path: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in self.fs.list(path):
            child = f"{path}/{name}" if path else name
            below = self.visible(child)
            if below or child in ("d", "d/e", "f", "log"):
                found |= below
            else:
                found[child] = self.fs.read(child)
        return found

    @invariant()
    def shows_what_the_model_has(self) -> None:
        assert self.visible() == self.model


class RealMachine(AgainstDictionary):
    """On a real directory."""

    def make(self) -> SequencedFileSystem:
        self.directory = Path(tempfile.mkdtemp())
        return RealFileSystem(self.directory / "root")

    def teardown(self) -> None:
        assert not list(self.directory.rglob(".tmp-*"))
        shutil.rmtree(self.directory)


class SimulatedMachine(AgainstDictionary):
    """In memory; every completed operation survives kills and power losses."""

    fs: SimulatedFileSystem

    def make(self) -> SequencedFileSystem:
        return SimulatedFileSystem()

    @initialize(seed=st.integers(0, 1000))
    def seed(self, seed: int) -> None:
        self.fs = SimulatedFileSystem(seed)

    @rule()
    def power_loss(self) -> None:
        self.fs = self.fs.crash()

    @rule()
    def process_killed(self) -> None:
        self.fs = self.fs.kill()

    @precondition(lambda self: self.model)
    @rule(path=PATHS, data=DATA, step=st.integers(1, 12))
    def power_loss_during_write(self, path: str, data: bytes, step: int) -> None:
        left = [step]

        def stop(name: str, where: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise SimulatedCrash(name)

        self.fs.hook = stop
        done = False
        try:
            self.fs.write(path, data)
            done = True
        except SimulatedCrash:
            pass
        self.fs = self.fs.crash()
        before = self.model.get(path)
        now = self.fs.read(path) if self.fs.exists(path) else None
        assert now == data if done else now in (before, data)
        if now is not None:
            self.model[path] = now


TestRealMachine = RealMachine.TestCase
TestRealMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestSimulatedMachine = SimulatedMachine.TestCase
TestSimulatedMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
