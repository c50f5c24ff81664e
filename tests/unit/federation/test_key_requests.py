# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse, signing
from federation.certificates import der, site_subject
from federation.errors import BadSignatureError, ConfigError, ProtocolError
from federation.key_requests import coordinator_request, open_request, operator_request, site_request
from federation.roster import KeyRequest, KeyUse, RequestKind, Role
from federation.roster_document import RequestedKey
from federation.testing.rosters import MemoryConsortium
from federation.wire import request_to_bytes

A, B, C = (signing.generate_key() for _ in range(3))
EU = MemoryConsortium()
TLS, ISSUER = EU.tls_public("site/lumi"), der(EU.issuer().certificate)


def _resigned(request: KeyRequest, *keys: Ed25519PrivateKey) -> bytes:
    envelope = dsse.sign_envelope(dsse.REQUEST_TYPE, request_to_bytes(request), keys[0])
    for key in keys[1:]:
        envelope = dsse.add_signature(envelope, key)
    return envelope


def test_requests_come_back() -> None:
    site = open_request(site_request("lumi", update=A, witness=B, tls_public=TLS))
    assert (site.kind, site.id) == (RequestKind.SITE, "lumi")
    assert [site.key(use) for use in (KeyUse.ENVELOPES, KeyUse.WITNESS, KeyUse.TLS)] == [
        signing.public_bytes(A),
        signing.public_bytes(B),
        TLS,
    ]
    operator = open_request(operator_request("alice", A, (Role.OPERATOR, Role.AUDITOR), tls_public=TLS))
    assert (operator.kind, operator.roles) == (RequestKind.OPERATOR, (Role.OPERATOR, Role.AUDITOR))
    assert operator.key(KeyUse.TLS) == TLS
    served = open_request(coordinator_request(envelopes=A, ledger=B, tls_public=TLS, tls_issuer=ISSUER))
    assert (served.key(KeyUse.TLS), served.tls_issuer) == (TLS, ISSUER)
    coordinator = open_request(coordinator_request(envelopes=A, ledger=B, ledger_origin="eu/ledger"))
    assert (coordinator.id, coordinator.ledger_origin, coordinator.key(KeyUse.TLS)) == (
        "coordinator",
        "eu/ledger",
        b"",
    )


def test_every_key_must_have_signed() -> None:
    request = open_request(site_request("lumi", update=A, witness=B))
    with pytest.raises(BadSignatureError, match="2 of 2"):
        open_request(_resigned(request, A))
    with pytest.raises(BadSignatureError):
        open_request(_resigned(request, A, C))
    assert open_request(_resigned(request, B, A)) == request


def test_a_tls_key_that_cannot_sign_need_not_but_one_of_release_0_1_must() -> None:
    old = RequestedKey(use=KeyUse.TLS, public=signing.public_bytes(C))
    request = open_request(site_request("lumi", update=A, witness=B))
    request = replace(request, keys=(*request.keys, old))
    assert open_request(_resigned(request, A, B, C)) == request
    with pytest.raises(BadSignatureError, match="3 of 3"):
        open_request(_resigned(request, A, B))


@pytest.mark.parametrize("tls", [b"x", TLS + b"\0", ISSUER])
def test_a_tls_key_of_another_form_is_refused(tls: bytes) -> None:
    with pytest.raises(ProtocolError, match="request of lumi: TLS key: expected"):
        open_request(site_request("lumi", update=A, witness=B, tls_public=tls))
    with pytest.raises(ProtocolError, match="request of alice: TLS key: expected"):
        open_request(operator_request("alice", A, tls_public=tls))


def test_the_tls_issuer_must_be_an_authority() -> None:
    leaf = der(EU.certificate(site_subject("eu", "lumi"), "site/lumi", 1e9))
    for issuer in (b"junk", leaf):
        with pytest.raises(ProtocolError, match="request of coordinator: "):
            open_request(coordinator_request(envelopes=A, ledger=B, tls_public=TLS, tls_issuer=issuer))


def test_one_key_for_two_uses_is_refused() -> None:
    with pytest.raises(BadSignatureError, match="different keys"):
        open_request(site_request("lumi", update=A, witness=A))


def test_nobody_else_may_be_called_coordinator() -> None:
    for request in (site_request("coordinator", update=A, witness=B), operator_request("coordinator", A)):
        with pytest.raises(ProtocolError, match="another id"):
            open_request(request)


@pytest.mark.parametrize("name", ["", "Lumi", "../x", "a b", "x" * 41])
def test_ids_are_checked_before_signing(name: str) -> None:
    with pytest.raises(ConfigError):
        site_request(name, update=A, witness=B)
    with pytest.raises(ConfigError):
        operator_request(name, A)


def test_a_request_may_ask_only_for_what_its_kind_has() -> None:
    site = open_request(site_request("lumi", update=A, witness=B))
    operator = open_request(operator_request("alice", A))
    for broken, keys in (
        (replace(site, roles=(Role.OPERATOR,)), (A, B)),
        (replace(site, ledger_origin="eu/ledger"), (A, B)),
        (replace(site, tls_issuer=ISSUER), (A, B)),
        (replace(operator, tls_issuer=ISSUER), (A,)),
        (replace(site, keys=site.keys[:1]), (A,)),
        (replace(site, keys=(*site.keys, replace(site.keys[0], use=KeyUse.LEDGER))), (A, B)),
        (replace(operator, roles=()), (A,)),
        (replace(operator, kind=RequestKind.COORDINATOR), (A,)),
        (replace(operator, keys=operator.keys * 2), (A,)),
    ):
        with pytest.raises(ProtocolError):
            open_request(_resigned(broken, *keys))


def test_an_id_that_is_no_slug_is_refused_on_arrival() -> None:
    operator = open_request(operator_request("alice", A))
    with pytest.raises(ConfigError):
        open_request(_resigned(replace(operator, id="../../etc"), A))


def test_a_roster_is_no_request() -> None:
    with pytest.raises(ProtocolError, match="expected type"):
        open_request(dsse.sign_envelope(dsse.ROSTER_TYPE, b"", A))
