# SPDX-License-Identifier: Apache-2.0
"""(theta, m, r) in two tiers: mapped files for the newest versions, durable zarr arrays for some of them.

A version is written to mapped files. One that is to be durable is then copied to zarr in the background: what commits
it does not wait. A crash before the copy is there costs the rounds since the durable version before it, which are
computed again. A copy that cannot be made (a full disk) is logged and given up: the next one that is to be durable
takes its place.
"""

import logging
import threading
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.state.api import StateChunk, StateReader, StateStore, StateWriter
from federation.state.background import Background, Courtesy
from federation.state.mapped_store import MappedStateStore
from federation.state.zarr_store import ZarrStateStore

LOG: Final = logging.getLogger("federation.state")
SMALL_ELEMENTS: Final = 2**22
"""Fragments up to this size are copied at once: that takes less time than a thread is worth."""

_Key: TypeAlias = tuple[str, int, int]


class TieredStateStore(StateStore):
    """Versions below one directory of a real file system that this process alone uses.

    Args:
        in_background: copy to zarr on a thread of its own; otherwise `commit` returns with the copy made.
        courtesy: what that thread gives way to.
    """

    def __init__(
        self,
        fs: RealFileSystem,
        base: str = "state",
        *,
        in_background: bool = True,
        courtesy: Courtesy | None = None,
    ) -> None:
        self.mapped: Final = MappedStateStore(fs, f"{base}/.mapped")
        self.durable: Final = ZarrStateStore(fs, base)
        self._in_background = in_background
        self._courtesy = courtesy or Courtesy()
        self._background = Background("persist-state")
        self._lock = threading.Lock()
        self._unwanted: set[_Key] = set()
        self._copying: set[_Key] = set()

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        return _TieredWriter(self, (run, fragment, version), self.mapped.create(run, fragment, version, num_elements))

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        return self.mapped.open(run, fragment, version) or self.durable.open(run, fragment, version)

    def delete(self, run: str, fragment: int, version: int) -> None:
        with self._lock:
            if (run, fragment, version) in self._copying:
                self._unwanted.add((run, fragment, version))
        self.mapped.delete(run, fragment, version)
        self.durable.delete(run, fragment, version)

    def versions(self, run: str, fragment: int) -> list[int]:
        return sorted({*self.mapped.versions(run, fragment), *self.durable.versions(run, fragment)})

    def drop_copy(self, run: str, fragment: int, version: int) -> bool:
        if version not in self.mapped.versions(run, fragment) or version not in self.durable.versions(run, fragment):
            return False
        LOG.warning("run %s, fragment %d: the mapped copy of version %d is damaged", run, fragment, version)
        self.mapped.delete(run, fragment, version)
        return True

    def prune(self, run: str, fragment: int, *, current: Collection[int], in_force: Collection[int]) -> None:
        """Mapped: what is current. Durable: version 0 and the newest one in force."""
        for version in self.mapped.versions(run, fragment):
            if version not in current:
                self.mapped.delete(run, fragment, version)
        durable = self.durable.versions(run, fragment)
        newest = max((version for version in durable if version in in_force), default=0)
        for version in durable:
            if version not in (0, newest) and not self._is_copying((run, fragment, version)):
                self.durable.delete(run, fragment, version)

    def bytes_wanted(self, run: str, fragment: int, num_elements: int) -> int:
        return sum(tier.bytes_wanted(run, fragment, num_elements) for tier in (self.mapped, self.durable))

    def begin_sync(self, run: str, fragment: int, version: int) -> None:
        self.mapped.begin_sync(run, fragment, version)

    def drain(self) -> None:
        """Waits for the copies under way."""
        self._background.drain()

    def close(self) -> None:
        self._background.close()
        self.mapped.close()

    # -- for writers -------------------------------------------------------------------------------------------------

    def persist(self, key: _Key) -> None:
        """Copies a committed version to zarr, now or in the background."""
        reader = self.mapped.open(*key)
        assert reader is not None  # just committed, by the only process that deletes
        with self._lock:
            self._unwanted.discard(key)
            self._copying.add(key)
        if self._in_background and reader.grid.num_elements > SMALL_ELEMENTS:
            # The reader keeps the files from being written again.
            self._background.submit(
                lambda stopping: self._copy(key, reader, stopping, self._courtesy.turn(stopping).wait)
            )
        else:
            self._copy(key, reader, threading.Event(), lambda: None)

    # ----------------------------------------------------------------------------------------------------------------

    def _copy(self, key: _Key, reader: StateReader, stopping: threading.Event, give_way: Callable[[], None]) -> None:
        run, fragment, version = key
        try:
            if self._is_superseded(key):
                return
            with self.durable.create(run, fragment, version, reader.grid.num_elements) as writer:
                for index in range(reader.grid.num_chunks):
                    give_way()
                    if stopping.is_set() or key in self._unwanted:
                        return
                    writer.write_chunk(index, *reader.view_chunk(index))
                writer.commit()
        except FederationError as error:
            LOG.error(
                "run %s, fragment %d: version %d is not durable, the next snapshot tries again: %s",
                run,
                fragment,
                version,
                error.diagnostics(),
            )
        finally:
            self._copied(key)

    def _copied(self, key: _Key) -> None:
        with self._lock:
            self._copying.discard(key)
            unwanted = key in self._unwanted
            self._unwanted.discard(key)
        if unwanted:  # deleted meanwhile
            self.durable.delete(*key)

    def _is_superseded(self, key: _Key) -> bool:
        """Whether a newer version waits to be copied too: where the disk is slow, they must not pile up."""
        run, fragment, version = key
        with self._lock:
            return 0 < version < max(other[2] for other in self._copying if other[:2] == (run, fragment))

    def _is_copying(self, key: _Key) -> bool:
        with self._lock:
            return key in self._copying


class _TieredWriter(StateWriter):
    """Writes to the mapped tier, and has it copied at the commit."""

    def __init__(self, store: TieredStateStore, key: _Key, inner: StateWriter) -> None:
        super().__init__(inner.grid.num_elements)
        self._store = store
        self._key = key
        self._inner = inner

    def reserve(self, index: int) -> StateChunk:
        return self._inner.reserve(index)

    def filled(self, index: int) -> None:
        self._inner.filled(index)
        with self._lock:
            self._next += 1

    def _write(self, index: int, chunk: StateChunk) -> None:
        self._inner.write_chunk(index, *chunk)

    def _commit(self, *, durable: bool) -> None:
        self._inner.commit()
        if durable:
            self._store.persist(self._key)

    def discard(self) -> None:
        self._inner.discard()
