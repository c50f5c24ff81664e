# SPDX-License-Identifier: Apache-2.0
"""(theta, m, r) in memory: for tests, simulations and a verifier's scratch."""

from typing import TypeAlias

from federation.state.api import StateChunk, StateReader, StateStore, StateWriter

_Key: TypeAlias = tuple[str, int, int]


def _copied(chunk: StateChunk) -> StateChunk:
    return StateChunk(chunk.theta.copy(), chunk.momentum.copy(), chunk.residual.copy())


class _MemoryReader(StateReader):
    """Chunks of one version."""

    def __init__(self, num_elements: int, chunks: tuple[StateChunk, ...]) -> None:
        super().__init__(num_elements)
        self._chunks = chunks

    def read_chunk(self, index: int) -> StateChunk:
        self.grid.bounds(index)
        return _copied(self._chunks[index])


class _MemoryWriter(StateWriter):
    """Collects chunks until `commit`."""

    def __init__(self, versions: dict[_Key, _MemoryReader], key: _Key, num_elements: int) -> None:
        super().__init__(num_elements)
        self._versions = versions
        self._key = key
        self._chunks: list[StateChunk] = []

    def _write(self, index: int, chunk: StateChunk) -> None:
        self._chunks.append(_copied(chunk))

    def _commit(self, *, durable: bool) -> None:
        self._versions[self._key] = _MemoryReader(self.grid.num_elements, tuple(self._chunks))

    def discard(self) -> None:
        self._chunks = []


class MemoryStateStore(StateStore):
    """A dictionary of versions."""

    def __init__(self) -> None:
        self._versions: dict[_Key, _MemoryReader] = {}

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        return _MemoryWriter(self._versions, (run, fragment, version), num_elements)

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        return self._versions.get((run, fragment, version))

    def delete(self, run: str, fragment: int, version: int) -> None:
        self._versions.pop((run, fragment, version), None)

    def versions(self, run: str, fragment: int) -> list[int]:
        return sorted(v for r, f, v in self._versions if (r, f) == (run, fragment))
