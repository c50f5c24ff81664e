# SPDX-License-Identifier: Apache-2.0
"""Which snapshot blobs the coordinator has named, one per run and fragment: small files beside the run's outcomes.

They lie in the spool, like the blobs that they name: what is lost with one is asked for again with the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from federation.durable.api import FileSystem
from federation.errors import ProtocolError
from federation.ids import is_slug
from federation.messages import Snapshot
from federation.rounds import Federation
from site_agent import layout
from site_agent.jobs import numbered, read_record, write_record


@dataclass(frozen=True, kw_only=True)
class SnapshotNote:
    """What the coordinator said about one fragment; `blob_digest` "" says that there is no such snapshot."""

    version: int
    blob_digest: str


def note(fs: FileSystem, federation: Federation, snapshot: Snapshot) -> None:
    """Keeps a pointer durably. An older one than that of a version in force is dropped: it was overtaken on the way.

    Raises:
        ProtocolError: it names a run or fragment that the ledger does not.
    """
    run = federation.runs.get(snapshot.run)
    if run is None or not is_slug(run.id) or snapshot.fragment not in range(len(run.versions)):
        raise ProtocolError(
            f"snapshot of run {snapshot.run!r:.60}, fragment {snapshot.fragment}: there is no such thing"
        )
    fresh = SnapshotNote(version=snapshot.version, blob_digest=snapshot.blob_digest)
    before = _read(fs, run.id, snapshot.fragment)
    in_force = {version.number for version in run.versions[snapshot.fragment]}
    overtaken = before is not None and before.version in in_force and before.version > fresh.version
    if fresh != before and not overtaken:
        write_record(fs, layout.run_paths(run.id).snapshot(snapshot.fragment), fresh)


def noted(fs: FileSystem, run: str) -> Iterator[tuple[int, SnapshotNote]]:
    """Per fragment what was said last; a damaged file is as good as none: it is asked for again."""
    for fragment in numbered(fs, layout.run_paths(run).snapshots):
        found = _read(fs, run, fragment)
        if found is not None:
            yield fragment, found


def _read(fs: FileSystem, run: str, fragment: int) -> SnapshotNote | None:
    try:
        return read_record(fs, layout.run_paths(run).snapshot(fragment), SnapshotNote)
    except ProtocolError:
        return None
