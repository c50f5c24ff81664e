# SPDX-License-Identifier: Apache-2.0
"""Endpoints, and which certificate is used when."""

import time
from pathlib import Path

import pytest

from federation.certificates import CertRole, bootstrap_subject, pem, site_subject
from federation.durable.real import RealFileSystem
from federation.errors import CertificateError, ConfigError
from federation.leaves import PartyKind
from federation.rpc import credentials
from federation.rpc.credentials import Certificates, Endpoint
from federation.testing.rosters import MemoryConsortium

NOW = time.time()
DAY = 86_400.0


@pytest.mark.parametrize("text", ["example.org:443", "127.0.0.1:1", "[::1]:65535", " host:8443 \n"])
def test_an_endpoint(text: str) -> None:
    assert str(Endpoint.parse(text)) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":443", "host:0", "host:65536", "host:44x", "ho st:1", "::1:443", "h:１", "-h:1", "h/:1"],
)
def test_no_endpoint(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Endpoint.parse(text)


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    return RealFileSystem(tmp_path)


def put(fs: RealFileSystem, path: str, *, age_days: float) -> bytes:
    consortium = MemoryConsortium(sites=("lumi",))
    subject = site_subject("eu", "lumi")
    if path == credentials.RENEWAL:
        subject = bootstrap_subject("eu", PartyKind.SITE, "lumi")
        assert subject.roles == (CertRole.BOOTSTRAP,)
    data = pem(consortium.certificate(subject, "site/lumi", NOW - age_days * DAY))
    fs.write(path, data)
    return data


def test_days_left(fs: RealFileSystem) -> None:
    assert Certificates.read(fs).days_left(NOW) is None
    put(fs, credentials.CERTIFICATE, age_days=28)
    assert Certificates.read(fs).days_left(NOW) == pytest.approx(2, abs=0.01)


def test_the_channel_certificate_serves_for_both_while_it_is_valid(fs: RealFileSystem) -> None:
    channel = put(fs, credentials.CERTIFICATE, age_days=1)
    put(fs, credentials.RENEWAL, age_days=1)
    found = Certificates.read(fs)
    assert found.usable_for_enrolment(NOW) == credentials.require_usable(found, NOW) == channel


def test_an_expired_one_leaves_the_one_for_renewal(fs: RealFileSystem) -> None:
    put(fs, credentials.CERTIFICATE, age_days=31)
    with pytest.raises(CertificateError, match="expired"):
        Certificates.read(fs).usable_for_enrolment(NOW)
    renewal = put(fs, credentials.RENEWAL, age_days=1)
    found = Certificates.read(fs)
    assert found.usable_for_enrolment(NOW) == renewal
    with pytest.raises(CertificateError, match="expired 24 hours ago"):
        credentials.require_usable(found, NOW)


def test_none_at_all(fs: RealFileSystem) -> None:
    for use in (
        Certificates.read(fs).usable_for_enrolment,
        lambda now: credentials.require_usable(Certificates.read(fs), now),
    ):
        with pytest.raises(CertificateError) as caught:
            use(NOW)
        assert "invite" in caught.value.advice


def test_an_issuer_must_be_in_the_roster() -> None:
    from dataclasses import replace

    roster = MemoryConsortium().roster(now_us=int(NOW * 1e6))
    assert credentials.trusted_issuer(roster).startswith(b"-----BEGIN CERTIFICATE")
    with pytest.raises(ConfigError, match="TLS issuer"):
        credentials.trusted_issuer(replace(roster, tls_issuer=b""))
