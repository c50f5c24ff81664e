# SPDX-License-Identifier: Apache-2.0
"""What a site or an operator needs to open a channel, in its own directory. Without gRPC: reading it costs nothing.

keys/tls.pem          made here, never leaves
tls/certificate.pem   for 30 days, of the TLS issuer that the roster certifies
tls/renewal.pem       long-lived, of the enrolment issuer; reaches only enrolment
tls/endpoint          host:port of the coordinator
tls/issuer.pem        the TLS issuer, for people; the newest roster's counts
root rosters/         pinned fingerprint, root-signed documents
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from federation import certificates
from federation.durable.api import FileSystem
from federation.durations import in_words
from federation.errors import CertificateError, ConfigError
from federation.ids import is_digest
from federation.roster import Roster, TrustedRosters

TLS_KEY: Final = "keys/tls.pem"
CERTIFICATE: Final = "tls/certificate.pem"
RENEWAL: Final = "tls/renewal.pem"
ISSUER: Final = "tls/issuer.pem"
ENDPOINT: Final = "tls/endpoint"
ROOT_FILE: Final = "root"
ROSTERS: Final = "rosters"

RENEW_DAYS: Final = 10.0
"""A certificate with fewer days left is renewed."""

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a coordinator listens: a name or address, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "host:port"; an IPv6 address stands in brackets.

        Raises:
            ConfigError: something else.
        """
        host, _, port = text.strip().rpartition(":")
        is_port = re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is not None and 0 < int(port) < 65_536
        if not is_port or _HOST.fullmatch(host) is None:
            raise ConfigError(
                f"endpoint: expected HOST:PORT, found {text[:120]!r}", advice="For example coordinator.example.org:443"
            )
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the coordinator's endpoint is reached. Whatever the way: TLS goes from end to end.

    Attributes:
        http_proxy: "http://[user:password@]host:port" of an HTTP CONNECT proxy; "" for none. The environment's
            variables are never looked at: a site says in site.toml what its data pass through.
        connect_to: "host:port" that is dialled in the endpoint's place, the end of a forward to it; "" for none.
    """

    http_proxy: str = ""
    connect_to: str = ""


DIRECT: Final = Way()


def roster_path(version: int) -> str:
    """Where the document of a roster version is kept."""
    return f"{ROSTERS}/{version:06d}.roster"


def read_text(fs: FileSystem, path: str) -> str:
    """A small text file, stripped; "" if there is none."""
    return fs.read(path, max_bytes=_MAX_FILE_BYTES).decode("utf-8", "replace").strip() if fs.exists(path) else ""


def check_root(fs: FileSystem, root: str, *, needed: bool) -> None:
    """Whether `--root` can be the fingerprint that this party trusts.

    Raises:
        ConfigError: no fingerprint, another one than is pinned here, or none at all where one is needed.
    """
    pinned = read_text(fs, ROOT_FILE)
    if root and not is_digest(root):
        raise ConfigError(f"--root: expected 64 characters of lower-case hexadecimal, found {root[:80]!r}")
    if root and pinned and root != pinned:
        raise ConfigError(f"--root: expected {pinned}, as pinned here, found {root}")
    if needed and not root and not pinned:
        raise ConfigError(
            "--root: expected the fingerprint of the consortium root, found none",
            advice="Ask a root key holder for it, over another channel than the invite came by.",
        )


def read_endpoint(fs: FileSystem) -> Endpoint | None:
    """The coordinator's endpoint, None if none is known.

    Raises:
        ConfigError: the file holds something else.
    """
    text = read_text(fs, ENDPOINT)
    return Endpoint.parse(text) if text else None


def require_endpoint(fs: FileSystem) -> Endpoint:
    """The coordinator's endpoint. Raises ConfigError if none is known."""
    found = read_endpoint(fs)
    if found is None:
        raise ConfigError(
            f"{ENDPOINT}: expected the coordinator's HOST:PORT, found none",
            advice="Run `enroll` with an invite, or `site-agent courier set SITE_DIR grpc --endpoint HOST:PORT`.",
        )
    return found


def write_endpoint(fs: FileSystem, endpoint: Endpoint) -> None:
    """Remembers where the coordinator listens."""
    fs.write(ENDPOINT, f"{endpoint}\n".encode())


def roster_documents(fs: FileSystem) -> list[bytes]:
    """Installed roster documents, oldest first."""
    return [fs.read(f"{ROSTERS}/{name}") for name in fs.list(ROSTERS) if name.endswith(".roster")]


def installed_rosters(fs: FileSystem, now_us: int) -> TrustedRosters | None:
    """The installed rosters, verified from the pinned root; None if none are.

    Raises:
        RosterError: a document breaks a rule.
    """
    documents, root = roster_documents(fs), read_text(fs, ROOT_FILE)
    return TrustedRosters.load(documents, root, now_us) if documents and root else None


def require_rosters(fs: FileSystem, now_us: int) -> TrustedRosters:
    """The installed rosters. Raises ConfigError if there are none, RosterError if one breaks a rule."""
    rosters = installed_rosters(fs, now_us)
    if rosters is None:
        raise ConfigError("no roster is installed", advice="Run `enroll` with an invite, or `roster install`.")
    return rosters


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """The channel certificates of a directory, unverified; None for one that is not there."""

    channel: bytes | None
    renewal: bytes | None

    @classmethod
    def read(cls, fs: FileSystem) -> Self:
        """What lies in the directory."""
        return cls(channel=_read(fs, CERTIFICATE), renewal=_read(fs, RENEWAL))

    def days_left(self, now: float) -> float | None:
        """Days until the channel certificate expires, negative afterwards; None without one.

        Raises:
            CertificateError: the file holds no certificate.
        """
        return None if self.channel is None else _days(self.channel, now)

    def usable(self, now: float) -> bytes | None:
        """The channel certificate if it has not expired."""
        return self.channel if self.channel is not None and _days(self.channel, now) > 0 else None

    def usable_for_enrolment(self, now: float) -> bytes:
        """What reaches enrolment now: the channel certificate, else the one for renewal.

        Raises:
            CertificateError: neither is there and valid.
        """
        for found in (self.channel, self.renewal):
            if found is not None and _days(found, now) > 0:
                return found
        raise CertificateError(
            "certificate: expected one that is valid, found " + ("expired ones" if self.channel else "none"),
            advice="Ask an operator of the consortium for an invite, then run `enroll`.",
        )


def require_usable(found: Certificates, now: float) -> bytes:
    """The channel certificate.

    Raises:
        CertificateError: there is none, or it has expired.
    """
    usable = found.usable(now)
    if usable is not None:
        return usable
    if found.channel is None:
        raise CertificateError(
            f"{CERTIFICATE}: expected a certificate of the consortium, found none",
            advice="Ask an operator of the consortium for an invite, then run `enroll`.",
        )
    raise CertificateError(
        f"{CERTIFICATE}: expired {_ago(found.channel, now)} ago by this machine's clock",
        advice="It is renewed by itself while the coordinator can be reached; else check this machine's clock.",
    )


def trusted_issuer(roster: Roster) -> bytes:
    """PEM of the TLS issuer that the consortium root certifies.

    Raises:
        ConfigError: the roster names none.
    """
    if not roster.tls_issuer:
        raise ConfigError(
            f"roster version {roster.version}: expected a TLS issuer, found none",
            advice="Have the coordinator's new request signed into the next roster, then install that roster.",
        )
    return certificates.pem(certificates.read_issuer(roster.tls_issuer))


def _read(fs: FileSystem, path: str) -> bytes | None:
    return fs.read(path, max_bytes=certificates.MAX_CERTIFICATE_BYTES) if fs.exists(path) else None


def _days(data: bytes, now: float) -> float:
    return certificates.days_left(certificates.read_certificate(data), now)


def _ago(data: bytes, now: float) -> str:
    return in_words(-_days(data, now) * certificates.DAY_SECONDS)
