# SPDX-License-Identifier: Apache-2.0
"""Certificates say who their holder is in one spelling, and only what the right issuer signed counts."""

import string
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from federation.certificates import (
    CERTIFICATE_SECONDS,
    CertRole,
    Issuer,
    IssuerKind,
    Subject,
    bootstrap_subject,
    coordinator_subject,
    days_left,
    der,
    generate_tls_key,
    key_pem,
    load_tls_key,
    make_issuer,
    operator_subject,
    parse_subject,
    pem,
    read_certificate,
    read_identity,
    read_issuer,
    read_spki,
    save_tls_key,
    server_name,
    site_subject,
    spki,
    spki_of,
)
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CertificateError, ConfigError, UsageError
from federation.leaves import PartyKind
from federation.roster import Role
from federation.signing import generate_key, save_private_key
from federation.testing.rosters import MemoryConsortium

NOW = 1_800_000_000.0
DAY = 86_400.0
EU = MemoryConsortium()
TLS, ENROLMENT = der(EU.issuer().certificate), der(EU.enrolment_issuer().certificate)
KEY = EU.tls_key("site/lumi")
SITE = site_subject("eu", "lumi")
SUBJECTS = [
    SITE,
    operator_subject("eu", "alice", (Role.VIEWER, Role.OPERATOR, Role.AUDITOR)),
    operator_subject("eu", "bob", ("viewer",)),
    bootstrap_subject("eu", PartyKind.SITE, "lumi"),
    bootstrap_subject("eu", PartyKind.OPERATOR, "alice"),
]


def _read(certificate: x509.Certificate, now: float = NOW) -> str:
    return read_identity(der(certificate), TLS, ENROLMENT, now).uri


def _refused(certificate: x509.Certificate, words: str, now: float = NOW) -> None:
    with pytest.raises(CertificateError, match=words):
        _read(certificate, now)


# --- what is issued comes back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.uri)
@pytest.mark.parametrize("form", [pem, der])
def test_a_clients_certificate_comes_back(subject: Subject, form: Callable[[x509.Certificate], bytes]) -> None:
    certificate = EU.issuers().issue(subject, spki(KEY), NOW)
    identity = read_identity(form(certificate), TLS, ENROLMENT, NOW)
    assert Subject(**{name: getattr(identity, name) for name in Subject.__dataclass_fields__}) == subject
    assert identity.spki == spki(KEY) == spki_of(certificate)
    assert identity.not_after_us == int(NOW + CERTIFICATE_SECONDS) * 1_000_000
    assert identity.issuer is (IssuerKind.ENROLMENT if subject.is_bootstrap else IssuerKind.TLS)
    assert identity.uri == subject.uri


def test_uris_are_those_of_the_protocol() -> None:
    assert [subject.uri for subject in (*SUBJECTS, coordinator_subject("eu"))] == [
        "federation://eu/site/lumi",
        "federation://eu/operator/alice?roles=operator+auditor+viewer",
        "federation://eu/operator/bob?roles=viewer",
        "federation://eu/bootstrap/site/lumi",
        "federation://eu/bootstrap/operator/alice",
        "federation://eu/coordinator",
    ]


def test_the_server_has_a_name_and_is_no_client() -> None:
    certificate = EU.issuer().issue_server("eu", spki(KEY), NOW)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [server_name("eu")] == ["coordinator.eu.federation.internal"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    identity = read_identity(der(certificate), TLS, b"", NOW)
    assert (identity.roles, identity.id, identity.kind) == ((CertRole.COORDINATOR,), "coordinator", None)


def test_the_same_certificate_made_twice_has_the_same_bytes() -> None:
    first, again = (EU.issuers().issue(SITE, spki(KEY), NOW) for _ in range(2))
    assert der(first) == der(again)
    others = [
        EU.issuers().issue(SITE, spki(KEY), NOW + 1),
        EU.issuers().issue(SITE, spki(EU.tls_key("spare")), NOW),
        EU.issuers().issue(site_subject("eu", "jupiter"), spki(KEY), NOW),
        EU.issuers().issue(SITE, spki(KEY), NOW, DAY),
        EU.issuer().issue_server("eu", spki(KEY), NOW),
    ]
    assert len({certificate.serial_number for certificate in (first, *others)}) == 6


def test_lifetimes() -> None:
    certificate = EU.issuers().issue(SITE, spki(KEY), NOW)
    assert days_left(certificate, NOW) == 30
    assert days_left(certificate, NOW + 31 * DAY) == -1
    assert _read(certificate, NOW - 299) == _read(certificate, NOW + 30 * DAY - 1) == SITE.uri
    _refused(certificate, r"expired on 2027-02-14 08:00:00 UTC, 0 seconds ago", NOW + 30 * DAY)
    _refused(certificate, r"valid from .* 1 seconds from now", NOW - 301)


def test_nothing_outlives_its_issuer() -> None:
    key = generate_tls_key()
    issuer = Issuer(key=key, certificate=make_issuer("short", key, NOW, days=10))
    certificate = issuer.issue_client(SITE, spki(KEY), NOW)
    assert days_left(certificate, NOW) == 10
    with pytest.raises(CertificateError, match="issuer's certificate: it expired"):
        read_identity(der(certificate), der(issuer.certificate), b"", NOW + 10 * DAY)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_each_issuer_certifies_only_its_own_subjects() -> None:
    for subject in SUBJECTS:
        wrong = EU.issuer() if subject.is_bootstrap else EU.enrolment_issuer()
        _refused(wrong.issue_client(subject, spki(KEY), NOW), "expected another issuer for federation://eu/")
    _refused(EU.enrolment_issuer().issue_server("eu", spki(KEY), NOW), "expected another issuer")


def test_certificates_of_strangers_are_refused() -> None:
    stranger = MemoryConsortium(seed="stranger")
    _refused(stranger.issuers().issue(SITE, spki(KEY), NOW), "expected one of this consortium's issuers")
    key = EU.tls_key("spare")
    same_name = Issuer(key=key, certificate=make_issuer("eu TLS issuer", key, NOW))
    assert same_name.certificate.subject == EU.issuer().certificate.subject
    _refused(same_name.issue_client(SITE, spki(KEY), NOW), "expected one of this consortium's issuers")
    bootstrap = EU.issuers().issue(SUBJECTS[3], spki(KEY), NOW)
    with pytest.raises(CertificateError, match="issuers"):
        read_identity(der(bootstrap), TLS, b"", NOW)
    with pytest.raises(CertificateError, match="issuers"):
        read_identity(der(bootstrap), b"", b"", NOW)


def test_an_altered_certificate_is_refused() -> None:
    good = bytearray(der(EU.issuers().issue(SITE, spki(KEY), NOW)))
    good[good.index(b"site/lumi") + 5 : good.index(b"site/lumi") + 9] = b"lump"
    with pytest.raises(CertificateError, match="expected one of this consortium's issuers"):
        read_identity(bytes(good), TLS, ENROLMENT, NOW)


def test_an_issuer_speaks_for_nobody() -> None:
    _refused(EU.issuer().certificate, "expected one of an end entity, found an authority's")


@pytest.mark.parametrize("data", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nx\n", b"x" * 20_000], ids=len)
def test_junk_is_refused(data: bytes) -> None:
    for call in (read_certificate, read_issuer, lambda found: read_identity(found, TLS, ENROLMENT, NOW)):
        with pytest.raises(CertificateError):
            call(data)


CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def _names(*uris: str, hosts: tuple[str, ...] = ()) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return x509.SubjectAlternativeName([*names, *map(x509.DNSName, hosts)])


def _made(*extensions: tuple[x509.ExtensionType, bool], key: object = KEY, ca: bool = False) -> x509.Certificate:
    """A certificate that the TLS issuer signed, whatever it says."""
    start = datetime.fromtimestamp(NOW, UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    issuer = name if ca else EU.issuer().certificate.subject
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), 1)  # type: ignore[attr-defined]
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(KEY if ca else EU.issuer().key, hashes.SHA256())


END = (x509.BasicConstraints(ca=False, path_length=None), True)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
BROKEN: dict[str, tuple[x509.Certificate, str]] = {
    "no-name": (_made(END, (CLIENT, False)), "exactly one URI, found 0"),
    "two-names": (_made(END, (CLIENT, False), (_names(SITE.uri, SITE.uri), False)), "exactly one URI, found 2"),
    "no-usage": (_made(END, (_names(SITE.uri), False)), "expected one for a client"),
    "server-usage": (
        _made(END, (_names(SITE.uri), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)),
        "expected one for a client",
    ),
    "both-usages": (
        _made(
            END,
            (_names(SITE.uri), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ),
        "expected one for a client",
    ),
    "site-with-the-servers-name": (
        _made(END, (CLIENT, False), (_names(SITE.uri, hosts=(server_name("eu"),)), False)),
        "expected the server names",
    ),
    "coordinator-as-client": (
        _made(END, (CLIENT, False), (_names("federation://eu/coordinator", hosts=(server_name("eu"),)), False)),
        "expected one for a server",
    ),
    "no-constraints": (_made((CLIENT, False), (_names(SITE.uri), False)), "end entity"),
    "unknown-critical": (
        _made(END, (CLIENT, False), (_names(SITE.uri), False), (UNKNOWN, True)),
        "unknown critical extension 1.2.3.4",
    ),
    "other-curve": (
        _made(END, (CLIENT, False), (_names(SITE.uri), False), key=ec.derive_private_key(5, ec.SECP384R1())),
        "expected an ECDSA key on P-256",
    ),
    "ed25519": (
        _made(END, (CLIENT, False), (_names(SITE.uri), False), key=ed25519.Ed25519PrivateKey.generate()),
        "expected an ECDSA key on P-256",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_even_the_issuer_may_not_certify(name: str) -> None:
    certificate, words = BROKEN[name]
    _refused(certificate, words)


def test_an_unknown_extension_that_is_not_critical_is_ignored() -> None:
    assert _read(_made(END, (CLIENT, False), (_names(SITE.uri), False), (UNKNOWN, False))) == SITE.uri


def test_an_issuer_must_be_one() -> None:
    read_issuer(TLS)
    assert read_issuer(pem(EU.issuer().certificate)) == EU.issuer().certificate
    usage = EU.issuer().certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    leaf = EU.issuers().issue(SITE, spki(KEY), NOW)
    only_signs_data = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    for broken in (
        leaf,
        _made((x509.BasicConstraints(ca=True, path_length=None), True), (usage, True), ca=True),
        _made((x509.BasicConstraints(ca=True, path_length=1), True), (usage, True), ca=True),
        _made((x509.BasicConstraints(ca=True, path_length=0), True), ca=True),
        _made((x509.BasicConstraints(ca=True, path_length=0), True), (only_signs_data, True), ca=True),
        _made((x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)),
    ):
        with pytest.raises(CertificateError, match="issuer's certificate: expected"):
            read_issuer(der(broken))
    read_issuer(der(_made((x509.BasicConstraints(ca=True, path_length=0), True), (usage, True), ca=True)))


# --- spelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "federation://eu",
        "federation://eu/site/",
        "federation://eu/site/lumi/",
        "federation://eu/site/LUMI",
        "federation://eu/site/lumi?roles=operator",
        "federation://eu/site/../coordinator",
        "federation://eu/operator/alice",
        "federation://eu/operator/alice?roles=",
        "federation://eu/operator/alice?roles=viewer+operator",
        "federation://eu/operator/alice?roles=operator+operator",
        "federation://eu/operator/alice?roles=operator+bootstrap",
        "federation://eu/operator/alice?roles=operator+",
        "federation://eu/bootstrap/coordinator",
        "federation://eu/bootstrap/operator/alice?roles=operator",
        "federation://eu/coordinator/x",
        "federation://EU/site/lumi",
        "http://eu/site/lumi",
        "federation://eu/site/lumi\n",
    ],
)
def test_other_spellings_name_nobody(uri: str) -> None:
    with pytest.raises(CertificateError, match="expected the URI"):
        parse_subject(uri)


def test_an_operator_without_a_role_gets_no_certificate() -> None:
    with pytest.raises(CertificateError, match="expected the URI"):
        EU.issuers().issue(operator_subject("eu", "alice", ()), spki(KEY), NOW)


SLUGS = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=40).filter(lambda s: s[0] != "-")


@given(SLUGS, SLUGS, st.sampled_from(PartyKind), st.sets(st.sampled_from(Role), min_size=1))
def test_every_subject_has_one_spelling(consortium: str, party: str, kind: PartyKind, roles: set[Role]) -> None:
    for subject in (
        site_subject(consortium, party),
        operator_subject(consortium, party, tuple(roles)),
        bootstrap_subject(consortium, kind, party),
        coordinator_subject(consortium),
    ):
        assert parse_subject(subject.uri) == subject


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_kept_and_never_overwritten() -> None:
    fs = SimulatedFileSystem()
    key = generate_tls_key()
    save_tls_key(fs, "keys/tls.pem", key)
    assert spki(load_tls_key(fs, "keys/tls.pem")) == spki(key)
    assert fs.read("keys/tls.pem") == key_pem(key)
    with pytest.raises(UsageError, match="expected no file"):
        save_tls_key(fs, "keys/tls.pem", key)


def test_other_keys_are_refused_in_words() -> None:
    fs = SimulatedFileSystem()
    save_private_key(fs, "ed.pem", generate_key())
    save_tls_key(fs, "p384.pem", ec.generate_private_key(ec.SECP384R1()))
    fs.write("junk.pem", b"junk")
    for path, words in (
        ("ed.pem", "an ECDSA key on P-256, found Ed25519PrivateKey"),
        ("p384.pem", "an ECDSA key on P-256"),
        ("junk.pem", "unencrypted PEM"),
        ("none.pem", "an ECDSA private key in a readable PEM file"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_tls_key(fs, path)


@pytest.mark.parametrize("data", [b"", b"junk", bytes(32), spki(KEY) + b"\0", TLS], ids=len)
def test_other_public_keys_are_refused(data: bytes) -> None:
    with pytest.raises(CertificateError, match="TLS key: expected"):
        read_spki(data)
    with pytest.raises(CertificateError, match="TLS key: expected"):
        EU.issuer().issue_client(SITE, data, NOW)


def test_memory_consortiums_are_the_same_each_time() -> None:
    assert MemoryConsortium().roster() == EU.roster()
    assert der(MemoryConsortium().issuer().certificate) == TLS
    assert der(replace(EU, seed="x", tls_keys={}).issuer().certificate) != TLS
