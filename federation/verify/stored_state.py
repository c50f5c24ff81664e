# SPDX-License-Identifier: Apache-2.0
"""The directory's versions of (theta, m, r), compared with what was recomputed.

They are a cache and unsigned, and zarr would run whatever decoder their metadata name: so before a version is opened,
its metadata must be exactly of the kind that this release writes.
"""

import json
from typing import Any, Final

from federation.aggregate import is_intact
from federation.chunks import CHUNK_ELEMENTS
from federation.durable import FileSystem
from federation.errors import CorruptObjectError, FederationError, StorageError
from federation.state.api import StateChunk, StateReader, StateStore, StateWriter
from federation.state.zarr_store import CHUNKS_PER_SHARD, ZarrStateStore
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.recomputation import Recomputation
from federation.verify.report import NOWHERE, Check, Findings, Place
from federation.verify.trust import names_in

STATE: Final = "state"
_METADATA: Final = "zarr.json"
_MAX_METADATA_BYTES: Final = 64 * 1024
_CODECS: Final = ["sharding_indexed"]
_INNER_CODECS: Final = ([["bytes", "crc32c"]], [["bytes", "zstd", "crc32c"]])
"""As written now, and as by release 0.1."""
_INDEX_CODECS: Final = [["bytes", "crc32c"]]


class CheckedZarrStore(StateStore):
    """A `ZarrStateStore` for reading, which opens only versions with harmless metadata."""

    def __init__(self, fs: ReadOnlyFileSystem) -> None:
        self._fs = fs
        self._store = ZarrStateStore(fs, STATE)

    def open(self, run: str, fragment: int, version: int) -> StateReader | None:
        path = f"{STATE}/{run}/{fragment}/{version}"
        if not self._fs.exists(path):
            return None
        try:
            _check_metadata(self._fs, path)
        except StorageError as error:
            raise CorruptObjectError(f"{path}: expected a readable version, found: {error}") from error
        return self._store.open(run, fragment, version)

    def versions(self, run: str, fragment: int) -> list[int]:
        names = names_in(self._fs, f"{STATE}/{run}/{fragment}")
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def create(self, run: str, fragment: int, version: int, num_elements: int) -> StateWriter:
        raise NotImplementedError("an audited directory is not written to")

    def delete(self, run: str, fragment: int, version: int) -> None:
        raise NotImplementedError("an audited directory is not written to")


def _check_metadata(fs: FileSystem, path: str) -> None:
    """Raises CorruptObjectError unless there is one group of exactly our arrays, with exactly our codecs."""
    names = fs.list(path)
    if names != sorted([*StateChunk._fields, _METADATA]):
        raise CorruptObjectError(f"{path}: expected {_METADATA} and three arrays, found {', '.join(names)}")
    group = _json(fs, f"{path}/{_METADATA}")
    if group.get("zarr_format") != 3 or group.get("node_type") != "group":
        raise CorruptObjectError(f"{path}: expected a group of zarr format 3")
    for name in StateChunk._fields:
        inside = fs.list(f"{path}/{name}")
        array = _json(fs, f"{path}/{name}/{_METADATA}")
        if set(inside) - {"c", _METADATA} or array.get("zarr_format") != 3 or not _harmless(array):
            raise CorruptObjectError(f"{path}/{name}: expected an array with the codecs that this release writes")


def _harmless(array: dict[str, Any]) -> bool:
    """Our codecs and no others, and chunks of our size: larger ones would be made in memory before they are read."""
    codecs, grid = array.get("codecs"), array.get("chunk_grid")
    if _names(codecs) != _CODECS or array.get("storage_transformers") or not isinstance(grid, dict):
        return False
    inner = [entry.get("configuration", {}) for entry in codecs or []]
    shards = [[count * CHUNK_ELEMENTS] for count in range(1, CHUNKS_PER_SHARD + 1)]
    if grid.get("configuration", {}).get("chunk_shape") not in shards:
        return False
    return (
        [entry.get("chunk_shape") for entry in inner] == [[CHUNK_ELEMENTS]]
        and [_names(entry.get("codecs")) for entry in inner] in _INNER_CODECS
        and [_names(entry.get("index_codecs")) for entry in inner] == _INDEX_CODECS
    )


def _names(codecs: object) -> list[object]:
    if not isinstance(codecs, list):
        return []
    return [entry.get("name") if isinstance(entry, dict) else None for entry in codecs]


def _json(fs: FileSystem, path: str) -> dict[str, Any]:
    try:
        found = json.loads(fs.read(path, max_bytes=_MAX_METADATA_BYTES))
    except (FederationError, ValueError, RecursionError) as error:
        raise CorruptObjectError(f"{path}: expected zarr metadata, found: {error}") from error
    return found if isinstance(found, dict) else {}


def check_stored(findings: Findings, recomputation: Recomputation) -> None:
    """Every stored version that the ledger speaks of has the digests of the recomputed one."""
    store = recomputation.stored
    for run, manifest in recomputation.manifests.items():
        for fragment, table in enumerate(manifest.fragments):
            for version in store.versions(run, fragment):
                digests = recomputation.digests.get((run, fragment, version))
                path = f"{STATE}/{run}/{fragment}/{version}"
                if digests is None:
                    findings.note(f"{path}: no commit of this ledger made it (under way, or left over)")
                elif is_intact(store, run, fragment, version, table.num_elements, digests):
                    findings.agree(Check.STATE)
                elif version in store.versions(run, fragment):  # else a running coordinator has pruned it meanwhile
                    place = Place(run=run, round=version - 1) if version else NOWHERE
                    found = "another one, or damage (it is a cache: a coordinator that is started rebuilds it)"
                    findings.differ(Check.STATE, place, path, f"the state of digest {digests.theta}", found)
