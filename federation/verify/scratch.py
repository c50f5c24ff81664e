# SPDX-License-Identifier: Apache-2.0
"""Where recomputed versions go: memory for small models, else a temporary directory outside the audited one."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DiskFullError
from federation.state.api import StateReader, StateStore, StateWriter
from federation.state.mapped_store import MappedStateStore
from federation.state.memory_store import MemoryStateStore

MAX_ELEMENTS_IN_MEMORY: Final = 16 * 2**20
"""Parameters up to which versions are kept in memory: 12 bytes each, per version that is still needed."""


class ScratchStore(StateStore):
    """Keeps versions of small fragments in memory and of large ones in a directory that is removed at the end."""

    def __init__(self, files: RealFileSystem, base: str) -> None:
        self._memory = MemoryStateStore()
        self._disk = MappedStateStore(files, base)

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        store = self._memory if num_elements <= MAX_ELEMENTS_IN_MEMORY else self._disk
        return store.create(run, fragment, version, num_elements)

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        return self._memory.open(run, fragment, version) or self._disk.open(run, fragment, version)

    def delete(self, run: str, fragment: int, version: int) -> None:
        self._memory.delete(run, fragment, version)
        self._disk.delete(run, fragment, version)

    def versions(self, run: str, fragment: int) -> list[int]:
        return sorted({*self._memory.versions(run, fragment), *self._disk.versions(run, fragment)})


@contextmanager
def scratch_store() -> Iterator[ScratchStore]:
    """A store for one audit; whatever it wrote is removed afterwards. What it holds is nobody else's to read.

    Raises:
        ConfigError: the temporary directory is full.
    """
    files = RealFileSystem(Path(tempfile.gettempdir()))
    name = f"federation-verify-{secrets.token_hex(8)}"
    before = os.umask(0o077)
    try:
        yield ScratchStore(files, name)
    except DiskFullError as error:
        raise ConfigError(
            f"{files.root}: expected room for recomputed versions, found: {error}",
            advice="Set TMPDIR to a directory with room for three versions of the model, 12 bytes a parameter each.",
        ) from error
    finally:
        os.umask(before)
        files.remove_tree(name)
