# SPDX-License-Identifier: Apache-2.0
"""Makes the keys of a coordinator and of an operator, each in its own directory, and the requests for a roster entry.

The same keys give the same request again, byte for byte, so that a request may be repeated.
"""

from cryptography.hazmat.primitives.asymmetric import ec

from coordinator import home
from coordinator.network_config import NETWORK_FILE, network_text
from coordinator.operator_client import OPERATOR_ID, OPERATOR_KEY, OPERATOR_REQUEST
from federation import signing
from federation.certificates import Issuer, der, generate_tls_key, load_tls_key, make_issuer, pem, save_tls_key, spki
from federation.durable.api import FileSystem
from federation.key_requests import coordinator_request, operator_request
from federation.roster_document import Role
from federation.signing import key_id


def make_coordinator(fs: FileSystem, now: float, *, listen: str = "", endpoint: str = "") -> bytes:
    """Makes a coordinator's keys, issuers and coordinator.toml; returns the request for a roster entry.

    Args:
        fs: of a directory without keys.
        now: seconds since 1970.
        listen, endpoint: for coordinator.toml, as `network_config.NetworkSection` has them.

    Raises:
        UsageError: a key is there already.
        ConfigError: an address is not allowed.
    """
    text = network_text(listen=listen, endpoint=endpoint)
    messages, ledger, tls = signing.generate_key(), signing.generate_key(), generate_tls_key()
    signing.save_private_key(fs, home.COORDINATOR_KEY, messages)
    signing.save_private_key(fs, home.LEDGER_KEY, ledger)
    save_tls_key(fs, home.TLS_KEY, tls)
    issuer = _make_issuer(fs, home.TLS_ISSUER, "TLS", now)
    _make_issuer(fs, home.ENROLMENT_ISSUER, "enrolment", now)
    fs.write(NETWORK_FILE, text.encode())
    return coordinator_request(
        envelopes=messages, ledger=ledger, tls_public=spki(tls), tls_issuer=der(issuer.certificate)
    )


def make_operator(fs: FileSystem, operator: str, roles: tuple[Role, ...] = (Role.OPERATOR,)) -> bytes:
    """Makes an operator's keys in a directory without any; returns the request for a roster entry.

    Raises:
        UsageError: a key is there already.
        ConfigError: `operator` is no id.
    """
    key, tls = signing.generate_key(), generate_tls_key()
    request = operator_request(operator, key, roles, tls_public=spki(tls))
    signing.save_private_key(fs, OPERATOR_KEY, key)
    save_tls_key(fs, home.TLS_KEY, tls)
    fs.write(OPERATOR_REQUEST, request)
    fs.write(OPERATOR_ID, operator.encode())
    return request


def coordinator_request_of(fs: FileSystem) -> bytes:
    """The request for the keys that lie in a coordinator's directory. Raises ConfigError: one cannot be read."""
    keys, issuers = home.load_keys(fs), home.load_issuers(fs)
    if issuers is None:
        return coordinator_request(envelopes=keys.coordinator, ledger=keys.ledger)
    return coordinator_request(
        envelopes=keys.coordinator,
        ledger=keys.ledger,
        tls_public=spki(load_tls_key(fs, home.TLS_KEY)),
        tls_issuer=der(issuers.tls.certificate),
    )


def operator_request_of(fs: FileSystem, roles: tuple[Role, ...]) -> bytes:
    """The request for the keys that lie in an operator's directory, with a TLS key if it had none.

    Raises:
        ConfigError: a key cannot be read.
    """
    key, operator = signing.load_private_key(fs, OPERATOR_KEY), fs.read(OPERATOR_ID).decode().strip()
    if not fs.exists(home.TLS_KEY):
        save_tls_key(fs, home.TLS_KEY, generate_tls_key())
    return operator_request(operator, key, roles, tls_public=spki(load_tls_key(fs, home.TLS_KEY)))


def _make_issuer(fs: FileSystem, base: str, what: str, now: float) -> Issuer:
    """Its name holds part of its key's digest: no two issuers are ever taken for each other."""
    key: ec.EllipticCurvePrivateKey = generate_tls_key()
    issuer = Issuer(key=key, certificate=make_issuer(f"hpc-federation {what} {key_id(spki(key))[:16]}", key, now))
    save_tls_key(fs, f"{base}.pem", key)
    fs.write(f"{base}.crt", pem(issuer.certificate))
    return issuer
