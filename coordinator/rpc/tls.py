# SPDX-License-Identifier: Apache-2.0
"""The server's credentials: a client's certificate is always demanded, its own one is renewed without a restart.

That only TLS 1.3 is spoken: see `coordinator/__init__.py`; the gate looks at it too.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from federation.certificates import CERTIFICATE_SECONDS, Issuers, days_left, der, key_pem, pem, spki
from federation.errors import ConfigError
from federation.roster_document import Roster

RENEW_BELOW_DAYS: Final = 10.0


class ServerIdentity:
    """The server's key, and a certificate for it that is never old."""

    def __init__(
        self, consortium: str, key: ec.EllipticCurvePrivateKey, issuers: Issuers, clock: Callable[[], float] = time.time
    ) -> None:
        self._consortium = consortium
        self._key = key
        self._issuers = issuers
        self._clock = clock
        self._lock = threading.Lock()
        self._certificate = self._issued()

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self.fetch, require_client_authentication=True
        )

    def fetch(self) -> Any:
        """Asked by gRPC for each handshake, on its own threads: a new configuration, None for the last one."""
        with self._lock:
            if days_left(self._certificate, self._clock()) > RENEW_BELOW_DAYS:
                return None
            self._certificate = self._issued()
            return self._configuration()

    @property
    def not_after_us(self) -> int:
        """When the certificate of now expires, microseconds since 1970."""
        return int(self._certificate.not_valid_after_utc.timestamp() * 1e6)

    def _issued(self) -> x509.Certificate:
        public = spki(self._key)
        return self._issuers.tls.issue_server(self._consortium, public, self._clock(), CERTIFICATE_SECONDS)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authorities = pem(self._issuers.tls.certificate) + pem(self._issuers.enrolment.certificate)
        chain = [(key_pem(self._key), pem(self._certificate))]
        return grpc.ssl_server_certificate_configuration(chain, root_certificates=authorities)


def check_certified(roster: Roster, key: ec.EllipticCurvePrivateKey, issuers: Issuers) -> None:
    """Whether clients that trust this roster will trust this server.

    Raises:
        ConfigError: the roster names another TLS issuer or server key, or none.
    """
    named = roster.coordinator.tls_public if roster.coordinator is not None else b""
    for what, expected, found in (
        ("TLS issuer", roster.tls_issuer, der(issuers.tls.certificate)),
        ("TLS key of the coordinator", named, spki(key)),
    ):
        if expected != found:
            raise ConfigError(
                f"roster version {roster.version}: expected this directory's {what}, found "
                + ("another one" if expected else "none"),
                advice="Have this coordinator's request signed into the next roster, and install that one.",
            )
