# SPDX-License-Identifier: Apache-2.0
"""What rsync and sftp complain about, as errors of ours."""

import re
from typing import Final

from federation.errors import (
    DiskFullError,
    FederationError,
    ObjectNotFoundError,
    PeerUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from site_agent.carrier.process import Finished
from site_agent.carrier.remote import RemoteAddress

_FULL: Final = re.compile(r"No space left|[Qq]uota exceeded")
_LOST: Final = re.compile(r"Connection (?:closed|reset|refused)|connection unexpectedly closed|Broken pipe|timeout")
_STALE: Final = re.compile(r"Stale file handle|Input/output error|Transport endpoint")
_MISSING: Final = re.compile(r"No such file|not found|Couldn't (?:canonicalize|stat)", re.IGNORECASE)


def complaint_of(address: RemoteAddress, done: Finished, doing: str) -> FederationError:
    """The error that a program's end stands for. `doing` says what was tried: "to list the mailbox"."""
    found = f"{address}: expected {doing}, found: {done.complaint or f'exit code {done.code}'}"
    if done.code == 255 or _LOST.search(done.complaint):
        return PeerUnavailableError(found, advice="The connection was lost; it is tried again.")
    if _FULL.search(done.complaint):
        return DiskFullError(found, advice="Free space there, or raise the quota; what was sent is kept.")
    if _STALE.search(done.complaint):
        return StorageUnavailableError(found, advice="The file system there does not answer; it is tried again.")
    if _MISSING.search(done.complaint):
        return ObjectNotFoundError(found, advice="Compare the path with the site's directory on that machine.")
    if "Permission denied" in done.complaint:
        return StorageError(found, advice="The account of the login needs to read and write the site's spool there.")
    advice = "'Failure' often stands for a full disk or quota there." if "Failure" in done.complaint else ""
    return StorageError(found, advice=advice)
