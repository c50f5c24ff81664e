# SPDX-License-Identifier: Apache-2.0
"""Names inside an agent's directory, relative to its file system's root.

site.toml policy.toml           the operator's
keys/{tls,update,witness}.pem   made here, never leave, never reach a job
tls/                            certificates of the gRPC courier, the coordinator's endpoint: federation.rpc.credentials
root rosters/<version>.roster   pinned fingerprint of the consortium root, root-signed documents
state/                          journal, ledger copy, lock, the operator's answers and choices: small, back it up
spool/                          mailbox, blobs, runs and allocations: large, shared with jobs
metrics/federation.prom         the agent's own metrics, for node_exporter's textfile collector
"""

from typing import Final

from site_agent.jobs import AllocationPaths, RunPaths

UPDATE_KEY: Final = "keys/update.pem"
WITNESS_KEY: Final = "keys/witness.pem"
TLS_KEY: Final = "keys/tls.pem"
ROOT_FILE: Final = "root"
ROSTERS: Final = "rosters"
JOURNAL: Final = "state/journal"
LEDGER: Final = "state/ledger"
LOCK: Final = "state/lock"
HEARD: Final = "state/heard.json"
SUGGESTED: Final = "state/suggested-starts.json"
ANSWERS: Final = "state/answers"
VIEW: Final = "state/view.json"
COURIER: Final = "state/courier.json"
COURIER_STATUS: Final = "state/courier-status.json"
ROUND_TRIP: Final = "state/round-trip.json"
SECURITY_LOG: Final = "state/security.log"
SPOOL: Final = "spool"
MAILBOX: Final = "spool/mailbox/coordinator"
BLOBS: Final = "spool/blobs"
METRICS: Final = "metrics/federation.prom"


def roster_path(version: int) -> str:
    """Where the document of a roster version is kept."""
    return f"{ROSTERS}/{version:06d}.roster"


def answer_path(run: str) -> str:
    """What the site's operator said about a run."""
    return f"{ANSWERS}/{run}.json"


def run_paths(run: str) -> RunPaths:
    """Files of one run that outlive its allocations."""
    return RunPaths(f"spool/runs/{run}")


def allocation_dir(run: str, number: int) -> str:
    """Directory of one allocation."""
    return f"spool/allocations/{run}/a{number}"


def allocation_paths(run: str, number: int) -> AllocationPaths:
    """Files of one allocation."""
    return AllocationPaths(allocation_dir(run, number))
