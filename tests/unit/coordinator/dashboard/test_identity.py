# SPDX-License-Identifier: Apache-2.0
"""The dashboard's own certificate: made once, made anew where it does not fit any more, its key for nobody else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from coordinator.dashboard.identity import (
    CERTIFICATE,
    KEY,
    LIFETIME_DAYS,
    RENEW_BELOW_DAYS,
    own_identity,
    server_context,
)
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError

NOW = 1_790_000_000.0
DAY = 86_400.0


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    return RealFileSystem(tmp_path)


def identity(fs: RealFileSystem, *names: str, now: float = NOW) -> str:
    """The fingerprint; what was made can be served with."""
    key, certificate, fingerprint = own_identity(fs, names, lambda: now)
    server_context(key, certificate, None)
    return fingerprint


def certificate(fs: RealFileSystem) -> x509.Certificate:
    return x509.load_pem_x509_certificate(fs.read(CERTIFICATE))


def names(fs: RealFileSystem) -> set[str]:
    found = certificate(fs).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def test_it_is_made_once(fs: RealFileSystem) -> None:
    first = identity(fs, "dashboard.example.org")
    before = (fs.fingerprint(KEY), fs.fingerprint(CERTIFICATE))
    assert identity(fs, "dashboard.example.org", now=NOW + 100 * DAY) == first
    assert (fs.fingerprint(KEY), fs.fingerprint(CERTIFICATE)) == before


def test_the_fingerprint_is_what_browsers_show(fs: RealFileSystem) -> None:
    found = identity(fs)
    assert found.replace(":", "") == certificate(fs).fingerprint(hashes.SHA256()).hex().upper()
    assert len(found.split(":")) == 32


def test_nobody_else_reads_its_key(fs: RealFileSystem) -> None:
    identity(fs)
    assert fs.real_path(KEY).stat().st_mode & 0o777 == 0o600


def test_browsers_take_it(fs: RealFileSystem) -> None:
    identity(fs, "10.0.0.7", "dashboard.example.org", "::1")
    found = certificate(fs)
    assert names(fs) == {"localhost", "127.0.0.1", "10.0.0.7", "::1", "dashboard.example.org"}
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days <= 398
    assert found.not_valid_before_utc < datetime.fromtimestamp(NOW, UTC)
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("days", [LIFETIME_DAYS - RENEW_BELOW_DAYS + 1, LIFETIME_DAYS + 5, -10.0])
def test_near_its_end_and_of_a_clock_that_was_ahead_it_is_made_anew_for_the_same_key(
    fs: RealFileSystem, days: float
) -> None:
    first, key = identity(fs), fs.read(KEY)
    then = NOW + days * DAY
    assert identity(fs, now=then) != first
    found = certificate(fs)
    assert found.not_valid_before_utc.timestamp() < then < found.not_valid_after_utc.timestamp() - 390 * DAY
    assert fs.read(KEY) == key


def test_until_near_its_end_it_stays(fs: RealFileSystem) -> None:
    assert identity(fs) == identity(fs, now=NOW + (LIFETIME_DAYS - RENEW_BELOW_DAYS - 1) * DAY)


def test_other_names_get_another_one_and_spellings_do_not(fs: RealFileSystem) -> None:
    first = identity(fs, "one.example.org", "0:0::1")
    assert identity(fs, "one.example.org", "0:0::1") == first
    assert identity(fs, "::1", "one.example.org", "localhost") == first
    assert identity(fs, "::1", "two.example.org") != first
    assert names(fs) == {"localhost", "127.0.0.1", "::1", "two.example.org"}


def test_a_certificate_of_another_key_is_made_anew(fs: RealFileSystem) -> None:
    first = identity(fs)
    fs.remove(KEY)
    assert identity(fs) != first


@pytest.mark.parametrize("junk", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\xff" * 100])
def test_a_certificate_that_is_none_is_made_anew(fs: RealFileSystem, junk: bytes) -> None:
    identity(fs)
    fs.write(CERTIFICATE, junk)
    identity(fs)
    assert "localhost" in names(fs)


def test_a_key_that_is_none_is_said(fs: RealFileSystem) -> None:
    identity(fs)
    fs.write(KEY, b"no key")
    with pytest.raises(ConfigError, match=r"dashboard/server\.pem"):
        identity(fs)


def test_files_that_do_not_belong_together_are_the_operators_to_mend(tmp_path: Path) -> None:
    for name in ("one", "two"):
        identity(RealFileSystem(tmp_path / name))
    for other in (CERTIFICATE, "nowhere.crt"):
        with pytest.raises(ConfigError, match="expected a certificate and its key") as caught:
            server_context(tmp_path / "one" / KEY, tmp_path / "two" / other, None)
        assert "Name PEM files that belong together" in caught.value.advice
