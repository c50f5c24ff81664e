# SPDX-License-Identifier: Apache-2.0
"""Signed updates and evaluations of sites, opened with the key that the roster in force gives the site."""

from federation import dsse, wire
from federation.errors import UnknownSiteError
from federation.messages import Evaluation, TaskEvaluation, Update
from federation.verify.context import At
from federation.wire.documents import MAX_EVALUATION_BYTES, MAX_UPDATE_BYTES

_ENVELOPE_BYTES = 4096


def opened_update(at: At, site: str, digest: str) -> Update:
    """The update of that digest, if the site signed it.

    Raises:
        FederationError: it did not, or the bytes are no update.
    """
    data = at.evidence.read(digest, MAX_UPDATE_BYTES + _ENVELOPE_BYTES)
    return wire.update_from_bytes(dsse.open_envelope(data, dsse.UPDATE_TYPE, _public(at, site)))


def opened_evaluation(at: At, site: str, digest: str) -> Evaluation:
    """The evaluation of that digest, if the site signed it. Raises as `opened_update`."""
    data = at.evidence.read(digest, MAX_EVALUATION_BYTES + _ENVELOPE_BYTES)
    return wire.evaluation_from_bytes(dsse.open_envelope(data, dsse.EVALUATION_TYPE, _public(at, site)))


def opened_tasks(at: At, site: str, digest: str) -> TaskEvaluation:
    """The task evaluation of that digest, if the site signed it. Raises as `opened_update`."""
    data = at.evidence.read(digest, MAX_EVALUATION_BYTES + _ENVELOPE_BYTES)
    return wire.tasks_from_bytes(dsse.open_envelope(data, dsse.TASKS_TYPE, _public(at, site)))


def _public(at: At, site: str) -> bytes:
    public = at.audit.rosters.update_public(at.state.roster_version, site)
    if not public:
        raise UnknownSiteError(f"site: expected one of roster version {at.state.roster_version}, found {site!r:.60}")
    return public
