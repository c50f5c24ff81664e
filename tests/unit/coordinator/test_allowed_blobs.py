# SPDX-License-Identifier: Apache-2.0
"""What a site may ask for: never what another site sent, and nothing of runs that it is not in."""

from coordinator.tails import allowed_blobs
from federation import leaves as lv
from federation.rounds import fold
from federation.testing.history import SITES, digest_of, history

STATE = fold(history())
THETA = {"demo": digest_of("theta")}


def sent_by_sites() -> set[str]:
    """Digests of all signed updates, payloads and evaluations in the ledger."""
    found = set()
    for leaf in history():
        match leaf.body:
            case lv.VerdictV1() as verdict:
                found |= {verdict.update_digest, verdict.payload_digest}
            case lv.EvaluationRecordedV1() as evaluation:
                found.add(evaluation.evidence_digest)
    return found


def test_no_site_is_given_an_update_or_payload() -> None:
    secret = sent_by_sites()
    assert len(secret) > len(SITES)
    for site in SITES:
        assert not allowed_blobs(STATE, site, THETA) & secret


def test_a_member_may_ask_for_manifest_theta_and_commits_in_force() -> None:
    expected = {digest_of("m"), digest_of("theta"), digest_of("b0"), digest_of("b3")}
    assert allowed_blobs(STATE, SITES[0], THETA) == expected


def test_who_is_no_member_may_ask_for_nothing() -> None:
    assert allowed_blobs(STATE, "stranger", THETA) == frozenset()
