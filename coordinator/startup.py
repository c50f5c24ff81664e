# SPDX-License-Identifier: Apache-2.0
"""Puts a coordinator together from its directory, and refuses to serve what is damaged."""

import logging
from pathlib import Path
from typing import Final

from coordinator.home import LEDGER, load_keys, load_rosters
from coordinator.network_config import load_coordinator_config
from coordinator.service import Coordinator
from federation import leaves as lv
from federation import wire
from federation.blobs.store import BlobStore
from federation.chunk_pool import num_threads_here
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, CorruptObjectError, ObjectNotFoundError
from federation.ids import short
from federation.ledger.log import Ledger
from federation.roster import TrustedRosters
from federation.rounds import Federation, Run
from federation.state.background import Courtesy
from federation.state.tiered_store import TieredStateStore

LOG = logging.getLogger("coordinator")

CHECKED_BYTES: Final = 64 * 1024**3
"""Blobs are re-hashed at start up to this many bytes, newest first; `federation verify` checks all of them."""

ADVICE: Final = (
    "Do not serve this directory. `federation verify DIR --root FINGERPRINT` lists all damage; restore the directory "
    "from a backup and compare its ledger with a checkpoint that a site keeps."
)


def open_coordinator(directory: Path, now: float) -> Coordinator:
    """The coordinator of a directory, all evidence that it will serve checked.

    Raises:
        ConfigError: keys or roster are missing.
        CorruptObjectError: ledger or blobs are not what was written.
    """
    fs = RealFileSystem(directory)
    keys = load_keys(fs)
    rosters = load_rosters(fs, int(now * 1e6))
    try:
        ledger = _open_ledger(fs, rosters)
    except CorruptObjectError as error:
        raise CorruptObjectError(f"{directory}: {error}", advice=ADVICE) from error
    courtesy = Courtesy()
    coordinator = Coordinator(
        fs=fs,
        keys=keys,
        rosters=rosters,
        ledger=ledger,
        blobs=BlobStore(fs),
        states=TieredStateStore(fs, courtesy=courtesy),
        num_threads=load_coordinator_config(directory).aggregation.num_threads or num_threads_here(),
        in_background=True,
        courtesy=courtesy,
    )
    _check(coordinator, directory)
    return coordinator


def _open_ledger(fs: RealFileSystem, rosters: TrustedRosters) -> Ledger:
    entry = rosters.current.coordinator
    if entry is None:
        raise ConfigError(
            "the roster names no coordinator",
            advice="Hand coordinator.req to the consortium root: `federation consortium sign ROOT coordinator.req`.",
        )
    key = load_keys(fs).ledger
    if not fs.exists(f"{LEDGER}/checkpoint"):
        return Ledger.create(fs, LEDGER, entry.ledger_origin, key, rosters.witness_publics)
    return Ledger.open(fs, LEDGER, entry.ledger_origin, key, entry.ledger_public, rosters.witness_publics)


def _check(coordinator: Coordinator, directory: Path) -> None:
    try:
        check_blobs(coordinator.blobs, coordinator.state)
        for digest in evidence_of(coordinator.ledger):
            coordinator.blobs.verify(digest)
        for run in coordinator.state.runs.values():
            manifest = coordinator.manifest_of(run.id)
            for fragment, head in enumerate(run.heads()):
                repeated = coordinator.aggregation.ensure(run, manifest, fragment, head.number)
                if repeated:
                    LOG.warning("run %s fragment %d: state was rebuilt from %d rounds", run.id, fragment, repeated)
    except (CorruptObjectError, ObjectNotFoundError) as error:
        raise CorruptObjectError(f"{directory}: {error}", advice=ADVICE) from error


def check_blobs(blobs: BlobStore, state: Federation, budget: int = CHECKED_BYTES) -> None:
    """Every blob that the ledger names must be there; the newest are hashed again, up to `budget` bytes.

    Raises:
        ObjectNotFoundError, CorruptObjectError: which blob, of which run.
    """
    for run in state.runs.values():
        for digest in reversed(named_blobs(run, blobs)):
            if not blobs.has(digest):
                raise ObjectNotFoundError(f"run {run.id}: blob {short(digest)}, which the ledger names, is missing")
            size = blobs.size(digest)
            if size <= budget:
                budget -= size
                blobs.verify(digest)


def evidence_of(ledger: Ledger) -> list[str]:
    """Digests of rosters and of all signed updates, whatever became of them, oldest first; small blobs, each once."""
    found: dict[str, None] = {}
    for leaf in ledger.leaves():
        body = leaf.body
        if isinstance(body, lv.RosterInstalledV1):
            found[body.digest] = None
        elif isinstance(body, lv.VerdictV1) and body.update_digest:
            found[body.update_digest] = None
    return list(found)


def named_blobs(run: Run, blobs: BlobStore) -> list[str]:
    """Digests of all blobs that a run's leaves name, oldest first, each once."""
    found: dict[str, None] = {run.manifest_digest: None}
    if blobs.has(run.manifest_digest):
        found[wire.manifest_from_bytes(blobs.read(run.manifest_digest)).theta_blob] = None
    for round_number in sorted(run.rounds):
        entry = run.rounds[round_number]
        for verdict in entry.admitted():
            found[verdict.update_digest] = None
            found[verdict.payload_digest] = None
        if entry.commit is not None:
            found[entry.commit.blob_digest] = None
    found.update((e.evidence_digest, None) for e in run.evaluations)
    found.update((e.evidence_digest, None) for e in run.task_evaluations)
    return list(found)
