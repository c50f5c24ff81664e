# SPDX-License-Identifier: Apache-2.0
"""Who may come in: certificates, sessions, and how often one may knock."""

from dataclasses import replace
from secrets import token_hex

import pytest

from coordinator.dashboard import doors, sessions
from coordinator.dashboard.doors import MAX_PEERS, REQUESTS, TRIES, Doors
from coordinator.dashboard.links import Grant, Visitor, make_token
from coordinator.dashboard.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions
from coordinator.rpc.membership import Membership
from federation.certificates import bootstrap_subject, der, operator_subject, site_subject
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import AccessDeniedError, CertificateError, FederationError, LimitExceededError
from federation.leaves import PartyKind
from federation.roster_document import Role, Roster
from federation.testing.rosters import MemoryConsortium

NOW = 1_790_000_000.0
EU, STRANGERS = MemoryConsortium(), MemoryConsortium(seed="strangers")
TLS, ENROLMENT = der(EU.issuer().certificate), der(EU.enrolment_issuer().certificate)
PEOPLE = (("alice", Role.OPERATOR), ("edda", Role.AUDITOR), ("vito", Role.VIEWER))


def roster(*people: tuple[str, Role]) -> Roster:
    entries = tuple(EU.operator_entry(name, (role,)) for name, role in people)
    return replace(EU.roster(now_us=int(NOW * 1e6)), operators=entries)


def membership(*people: tuple[str, Role]) -> Membership:
    return Membership(consortium="eu", roster=roster(*people), rosters=(), revoked={}, invites={}, ledger_size=0)


class Time:
    now = NOW

    def __call__(self) -> float:
        return self.now


def opened(*people: tuple[str, Role]) -> Doors:
    time = Time()
    return Doors(
        fs=SimulatedFileSystem(),
        membership=membership(*(people or PEOPLE)),
        tls_issuer=TLS,
        enrolment_issuer=ENROLMENT,
        clock=time,
        steady=time,
    )


def certificate(name: str, role: Role, consortium: MemoryConsortium = EU, now: float = NOW) -> bytes:
    subject = operator_subject(consortium.name, name, (role,))
    return der(consortium.certificate(subject, f"operator/{name}", now))


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "shown"),
    [
        ("alice", Role.OPERATOR, Role.VIEWER),
        ("edda", Role.AUDITOR, Role.AUDITOR),
        ("vito", Role.VIEWER, Role.VIEWER),
    ],
)
def test_people_of_the_roster_come_in_with_their_role(name: str, role: Role, shown: Role) -> None:
    assert opened().by_certificate(certificate(name, role)) == Visitor(name=name, role=shown)


def test_a_certificate_that_has_expired_stays_outside() -> None:
    with pytest.raises(CertificateError, match="expired"):
        opened().by_certificate(certificate("edda", Role.AUDITOR, now=NOW - 40 * 86_400))


def test_a_certificate_of_another_issuer_stays_outside() -> None:
    with pytest.raises(CertificateError):
        opened().by_certificate(certificate("edda", Role.AUDITOR, STRANGERS))


def test_who_is_not_in_the_roster_any_more_stays_outside() -> None:
    with pytest.raises(AccessDeniedError, match="stranger"):
        opened(PEOPLE[0]).by_certificate(certificate("edda", Role.AUDITOR))


def test_a_role_that_the_roster_does_not_give_stays_outside() -> None:
    with pytest.raises(AccessDeniedError, match="no other roles"):
        opened(("edda", Role.VIEWER)).by_certificate(certificate("edda", Role.AUDITOR))


def test_sites_and_bearers_of_invites_stay_outside() -> None:
    site = der(EU.certificate(site_subject("eu", "lumi"), "site/lumi", NOW))
    invited = der(EU.certificate(bootstrap_subject("eu", PartyKind.OPERATOR, "alice"), "operator/alice", NOW))
    for found in (site, invited):
        with pytest.raises(FederationError):
            opened().by_certificate(found)


@pytest.mark.parametrize("data", [b"", b"x", b"0" * 100_000])
def test_bytes_that_are_no_certificate_stay_outside(data: bytes) -> None:
    with pytest.raises(FederationError):
        opened().by_certificate(data)


# --- sessions ---------------------------------------------------------------------------------------------------------


def entered(found: Doors, role: Role, name: str, peer: str = "10.0.0.1") -> str:
    expires = int(NOW * 1e6) + 10**7
    grant = Grant(consortium="eu", operator=name, role=role, expires_at_us=expires, nonce=token_hex(8))
    return found.by_link(make_token(grant, EU.key(f"operator/{name}")), peer)


def test_a_session_ends_with_who_gave_the_link() -> None:
    found = opened()
    secret = entered(found, Role.VIEWER, "alice")
    assert found.by_session(secret) == Visitor(name="alice", role=Role.VIEWER)
    found.membership = membership(PEOPLE[1])
    assert found.by_session(secret) is None


def test_a_session_ends_with_the_key_that_signed_its_link() -> None:
    found = opened()
    secret = entered(found, Role.VIEWER, "alice")
    entries = tuple(replace(entry, public=EU.public("operator/new")) for entry in found.membership.roster.operators)
    found.membership = replace(found.membership, roster=replace(found.membership.roster, operators=entries))
    assert found.by_session(secret) is None


def test_an_auditors_session_ends_with_the_role_that_opened_it() -> None:
    found = opened()
    secret = entered(found, Role.AUDITOR, "edda")
    assert found.by_session(secret) is not None
    found.membership = membership(("edda", Role.VIEWER))
    assert found.by_session(secret) is None


ALICE = Visitor(name="alice", role=Role.VIEWER)


def test_a_session_is_over_when_idle() -> None:
    found = Sessions()
    secret = found.begin(ALICE, 0.0)
    assert found.find(secret, IDLE_SECONDS) == ALICE
    assert found.find(secret, 2 * IDLE_SECONDS) == ALICE
    assert found.find(secret, 3 * IDLE_SECONDS + 1) is None
    assert found.find(secret, 0.0) is None


def test_a_session_is_over_after_the_longest_time_however_busy() -> None:
    found = Sessions()
    secret, now = found.begin(ALICE, 0.0), 0.0
    while now <= LONGEST_SECONDS:
        assert found.find(secret, now) == ALICE
        now += IDLE_SECONDS / 2
    assert found.find(secret, now) is None


def test_leaving_ends_one_session_alone() -> None:
    found = Sessions()
    first, second = found.begin(ALICE, 0.0), found.begin(ALICE, 0.0)
    assert first != second
    found.end(first)
    found.end("nonsense")
    assert (found.find(first, 1.0), found.find(second, 1.0)) == (None, ALICE)


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    found = Sessions()
    secrets = [found.begin(ALICE, 0.0) for _ in range(5)]
    assert [found.find(secret, 0.0) is not None for secret in secrets] == [False, False, True, True, True]


def test_secrets_are_not_kept() -> None:
    found = Sessions()
    secret = found.begin(ALICE, 0.0)
    assert secret not in repr(found)
    assert len(secret) >= 43


# --- how often --------------------------------------------------------------------------------------------------------


def refusals(found: Doors, count: int, peer: str) -> list[bool]:
    answers = []
    for _ in range(count):
        try:
            found.check_rate(peer)
            answers.append(False)
        except LimitExceededError:
            answers.append(True)
    return answers


def test_a_peer_that_asks_too_often_waits_and_nobody_else_does() -> None:
    found = opened()
    assert refusals(found, int(REQUESTS) + 1, "10.0.0.1") == [False] * int(REQUESTS) + [True]
    assert refusals(found, 1, "10.0.0.2") == [False]
    found.clock.now = NOW + 1.0  # type: ignore[attr-defined]
    assert refusals(found, 1, "10.0.0.1") == [False]


def test_links_cannot_be_guessed_quickly() -> None:
    found = opened()
    for _ in range(int(TRIES)):
        with pytest.raises(AccessDeniedError):
            found.by_link("guess.guess", "10.0.0.1")
    with pytest.raises(LimitExceededError, match="try again in 5 seconds"):
        found.by_link("guess.guess", "10.0.0.1")


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MAX_PEERS", 10)
    found = opened()
    for number in range(100):
        found.check_rate(f"10.0.0.{number}")
    assert len(found._requests) == 10
    assert MAX_PEERS > 10


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    found = opened()
    assert refusals(found, int(REQUESTS) + 1, "10.0.0.1")[-1]
    found.clock = lambda: NOW - 3600
    found.steady = lambda: NOW + 1
    assert refusals(found, 1, "10.0.0.1") == [False]


def test_members_do_not_wait_for_others_behind_one_proxy() -> None:
    found = opened()
    one, other = entered(found, Role.VIEWER, "vito"), entered(found, Role.VIEWER, "vito")
    for _ in range(int(REQUESTS)):
        assert found.visitor(b"", "", "10.0.0.1") is None
        assert found.visitor(b"", one, "10.0.0.1") is not None
    for secret in ("", one):
        with pytest.raises(LimitExceededError):
            found.visitor(b"", secret, "10.0.0.1")
    assert found.visitor(b"", other, "10.0.0.1") is not None
    assert found.visitor(certificate("vito", Role.VIEWER), "", "10.0.0.1") is not None


def test_whoever_has_a_link_does_not_wait_for_who_guesses_at_the_same_proxy() -> None:
    found = opened()
    for _ in range(int(TRIES)):
        with pytest.raises(AccessDeniedError):
            found.by_link("guess.guess", "10.0.0.1")
    assert found.by_session(entered(found, Role.VIEWER, "vito", "10.0.0.1")) is not None


def test_one_network_of_ipv6_is_one_peer() -> None:
    found = opened()
    for number in range(int(REQUESTS)):
        found.check_peer(f"2001:db8::{number:x}")
    with pytest.raises(LimitExceededError):
        found.check_peer("2001:db8::ffff")
    found.check_peer("2001:db8:0:1::1")
    found.check_peer("::ffff:10.0.0.1")


def test_a_link_lets_in_whose_certificate_does_not_count() -> None:
    found = opened()
    foreign = certificate("vito", Role.VIEWER, STRANGERS)
    with pytest.raises(FederationError):
        found.visitor(foreign, "", "10.0.0.1")
    assert found.visitor(foreign, entered(found, Role.VIEWER, "vito"), "10.0.0.1") is not None
