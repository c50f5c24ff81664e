# SPDX-License-Identifier: Apache-2.0
"""The gate without a socket: who is let in, how much, and who is thrown out when things change."""

from dataclasses import dataclass, field

import pytest
from network_bench import Who, consortium_of, holder_of, membership_of, revoke, subject_of

from coordinator.rpc import gate as gates
from coordinator.rpc.gate import CallLimits, Gate, OpenCall
from federation.certificates import Identity, der, pem
from federation.errors import AccessDeniedError, CertificateError, FederationError, OverloadedError, RevokedError

NOW = 1_800_000_000.0
PULL = "/federation.v1.Courier/Pull"
TLS = b"TLSv1.3"


@dataclass
class Scene:
    """A gate with clocks in the test's hands."""

    limits: CallLimits = field(default_factory=CallLimits)
    now: float = NOW
    ticks: float = 0.0

    def __post_init__(self) -> None:
        self.consortium = consortium_of()
        self.membership = membership_of(self.consortium, now=NOW)
        self.gate = Gate(
            self.membership,
            tls_issuer=der(self.consortium.issuer().certificate),
            enrolment_issuer=der(self.consortium.enrolment_issuer().certificate),
            limits=self.limits,
            clock=lambda: self.now,
            ticks=lambda: self.ticks,
        )

    def certificate(self, who: Who = Who.SITE, party: str = "", days: float = 30.0) -> bytes:
        subject = subject_of(who, party)
        public = self.consortium.tls_public(holder_of(subject))
        return pem(self.consortium.issuers().issue(subject, public, NOW, days * 86_400))

    def identity(self, who: Who = Who.SITE, party: str = "", days: float = 30.0) -> Identity:
        return self.gate.identify(self.certificate(who, party, days), TLS)

    def enter(self, who: Who = Who.SITE, party: str = "") -> OpenCall:
        return self.gate.enter(PULL, self.identity(who, party))


@pytest.mark.parametrize("version", [b"TLSv1.2", b"", b"TLSv1.3 "])
def test_another_tls_version_is_refused(version: bytes) -> None:
    scene = Scene()
    with pytest.raises(CertificateError, match=r"TLSv1\.3"):
        scene.gate.identify(scene.certificate(), version)


@pytest.mark.parametrize("certificate", [b"", b"x" * 20_000, b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\x30\x82"])
def test_what_is_no_certificate_is_refused(certificate: bytes) -> None:
    with pytest.raises(CertificateError):
        Scene().gate.identify(certificate, TLS)


def test_a_known_certificate_is_read_once_and_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    first = scene.identity(days=1)
    monkeypatch.setattr(gates, "read_identity", None)
    assert scene.identity(days=1) is first
    scene.now += 86_400
    with pytest.raises(CertificateError, match="expired"):
        scene.gate.enter(PULL, first)


def test_known_certificates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "MAX_REMEMBERED", 3)
    scene = Scene()
    for number in range(6):
        scene.identity(days=number + 1)
    assert len(scene.gate._known) == 3


def test_a_peer_may_make_so_many_calls_a_second_and_others_are_not_touched() -> None:
    scene = Scene(CallLimits(calls_per_second=5))
    for _ in range(10):
        scene.gate.leave(scene.enter())
    with pytest.raises(OverloadedError) as caught:
        scene.enter()
    assert caught.value.retry_after_seconds == pytest.approx(0.2)
    scene.gate.leave(scene.enter(party="leonardo"))
    scene.ticks += 0.2
    scene.gate.leave(scene.enter())


def test_a_refused_caller_uses_up_its_share_too() -> None:
    scene = Scene(CallLimits(calls_per_second=5))
    scene.gate.membership = revoke(scene.membership, "lumi")
    for _ in range(10):
        with pytest.raises(RevokedError):
            scene.enter()
    with pytest.raises(OverloadedError):
        scene.enter()


def test_a_peer_may_have_so_many_calls_open() -> None:
    scene = Scene(CallLimits(max_open_calls=2))
    first, _ = scene.enter(), scene.enter()
    with pytest.raises(OverloadedError, match="at a time"):
        scene.enter()
    scene.enter(party="leonardo")
    scene.gate.leave(first)
    scene.gate.leave(first)  # twice changes nothing
    scene.enter()
    with pytest.raises(OverloadedError):
        scene.enter()
    assert scene.gate.num_open == 3


def test_who_holds_an_invite_for_a_site_does_not_use_up_the_sites_share() -> None:
    scene = Scene(CallLimits(max_open_calls=1))
    scene.gate.enter("/federation.v1.Enrolment/Enroll", scene.identity(Who.BOOTSTRAP, "lumi"))
    scene.enter(Who.SITE, "lumi")
    assert scene.gate.num_open == 2


def test_bytes_beyond_the_share_wait_and_far_beyond_end_the_call() -> None:
    scene = Scene(CallLimits(bytes_per_second=1000))
    call = scene.enter()
    assert scene.gate.spend(call, 2000) == 0.0
    assert scene.gate.spend(call, 500) == pytest.approx(0.5)
    with pytest.raises(OverloadedError, match="1000 bytes a second"):
        scene.enter()
    with pytest.raises(OverloadedError) as caught:
        scene.gate.spend(call, 20_000)
    assert caught.value.retry_after_seconds == pytest.approx(20.5)
    scene.ticks += 21
    assert scene.gate.spend(call, 100) == 0.0


def test_a_change_ends_the_calls_that_could_not_be_made_any_more() -> None:
    scene = Scene()
    ended: list[tuple[str, FederationError]] = []
    for party in ("lumi", "leonardo"):
        scene.enter(party=party).end = lambda error, party=party: ended.append((party, error))
    scene.gate.recheck()
    assert ended == []
    scene.gate.membership = revoke(scene.membership, "lumi")
    scene.gate.recheck()
    assert [(party, type(error)) for party, error in ended] == [("lumi", RevokedError)]
    scene.now += 31 * 86_400
    scene.gate.recheck()
    assert {(party, type(error)) for party, error in ended[1:]} == {
        ("lumi", CertificateError),
        ("leonardo", CertificateError),
    }


def test_shares_are_forgotten_oldest_first_but_never_those_with_open_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "MAX_PEERS", 2)
    scene = Scene(CallLimits(max_open_calls=1))
    scene.enter(party="lumi")
    for party in ("leonardo", "jupiter"):
        scene.gate.leave(scene.enter(party=party))
    for stranger in ("a", "b", "c", "d"):
        with pytest.raises(AccessDeniedError):
            scene.enter(party=stranger)
    assert len(scene.gate._shares) <= 3
    with pytest.raises(OverloadedError):
        scene.enter(party="lumi")
