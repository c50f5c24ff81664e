# SPDX-License-Identifier: Apache-2.0
"""What the init commands make: keys that stay, issuers that belong together, requests that a root can sign."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from coordinator.cli.setup import init, operator
from coordinator.home import ENROLMENT_ISSUER, TLS_ISSUER, TLS_KEY, load_issuers, load_keys
from coordinator.identities import coordinator_request_of, make_coordinator, make_operator, operator_request_of
from coordinator.network_config import load_coordinator_config
from coordinator.rpc.operator_courier import party_of
from federation import signing
from federation.certificates import (
    days_left,
    der,
    load_tls_key,
    pem,
    read_identity,
    site_subject,
    spki,
)
from federation.consortium import init_root, sign_roster
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ConfigError, UsageError
from federation.key_requests import open_request
from federation.roster import KeyUse, Role
from federation.testing.rosters import MemoryConsortium

NOW = 1_800_000_000.0


def test_an_enrolment_asks_for_the_roles_of_the_set_up() -> None:
    fs = SimulatedFileSystem()
    request = make_operator(fs, "otto", (Role.AUDITOR,))
    assert party_of(fs).request == request
    assert open_request(party_of(fs, (Role.VIEWER,)).request).roles == (Role.VIEWER,)


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def _run(*arguments: object) -> None:
    commands = click.Group(commands=[init, operator])
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception


def test_the_coordinators_request_names_server_and_issuer(fs: SimulatedFileSystem) -> None:
    request = open_request(make_coordinator(fs, NOW))
    issuers = load_issuers(fs)
    assert issuers is not None
    assert request.tls_issuer == der(issuers.tls.certificate)
    assert request.key(KeyUse.TLS) == spki(load_tls_key(fs, TLS_KEY))
    assert request.key(KeyUse.ENVELOPES) == signing.public_bytes(load_keys(fs).coordinator)
    assert open_request(coordinator_request_of(fs)) == request
    assert 3640 < days_left(issuers.tls.certificate, NOW) <= 3650


def test_no_two_issuers_are_called_the_same(fs: SimulatedFileSystem) -> None:
    make_coordinator(fs, NOW)
    other = SimulatedFileSystem()
    make_coordinator(other, NOW)
    issuers = [
        found for each in (load_issuers(fs), load_issuers(other)) if each for found in (each.tls, each.enrolment)
    ]
    assert len({issuer.certificate.subject.rfc4514_string() for issuer in issuers}) == 4


def test_the_issuers_certify_what_the_roster_names(fs: SimulatedFileSystem) -> None:
    make_coordinator(fs, NOW)
    issuers = load_issuers(fs)
    assert issuers is not None
    public = MemoryConsortium().tls_public("site/lumi")
    certificate = issuers.issue(site_subject("eu", "lumi"), public, NOW)
    tls, enrolment = der(issuers.tls.certificate), der(issuers.enrolment.certificate)
    assert read_identity(der(certificate), tls, enrolment, NOW).spki == public


def test_a_directory_of_release_0_1_has_no_issuers(fs: SimulatedFileSystem) -> None:
    signing.save_private_key(fs, "keys/coordinator.pem", signing.generate_key())
    signing.save_private_key(fs, "keys/ledger.pem", signing.generate_key())
    assert load_issuers(fs) is None
    request = open_request(coordinator_request_of(fs))
    assert (request.key(KeyUse.TLS), request.tls_issuer) == (b"", b"")


@pytest.mark.parametrize("name", ["tls-issuer.pem", "tls-issuer.crt", "enrolment-issuer.pem", "enrolment-issuer.crt"])
@pytest.mark.parametrize("damage", ["missing", "junk"])
def test_a_damaged_issuer_is_refused_in_words(fs: SimulatedFileSystem, name: str, damage: str) -> None:
    make_coordinator(fs, NOW)
    if damage == "missing":
        fs.remove(f"keys/{name}")
    else:
        fs.write(f"keys/{name}", b"junk")
    with pytest.raises(ConfigError, match=f"keys/{name}: "):
        load_issuers(fs)


def test_an_issuers_key_and_certificate_belong_together(fs: SimulatedFileSystem) -> None:
    make_coordinator(fs, NOW)
    fs.write(f"{TLS_ISSUER}.crt", fs.read(f"{ENROLMENT_ISSUER}.crt"))
    with pytest.raises(ConfigError, match="found another key's"):
        load_issuers(fs)


def test_keys_are_never_overwritten(fs: SimulatedFileSystem) -> None:
    make_coordinator(fs, NOW)
    make_operator(other := SimulatedFileSystem(), "alice")
    for again in (lambda: make_coordinator(fs, NOW), lambda: make_operator(other, "alice")):
        with pytest.raises(UsageError, match="expected no file"):
            again()


def test_nothing_is_made_for_a_wrong_address_or_name(fs: SimulatedFileSystem) -> None:
    with pytest.raises(ConfigError, match=r"network\.listen"):
        make_coordinator(fs, NOW, listen="nowhere")
    with pytest.raises(ConfigError):
        make_operator(fs, "../alice")
    assert fs.list("keys") == []


def test_an_operators_request_is_the_same_again(fs: SimulatedFileSystem) -> None:
    data = make_operator(fs, "alice", (Role.AUDITOR,))
    request = open_request(data)
    assert (request.id, request.roles, request.key(KeyUse.TLS)) == (
        "alice",
        (Role.AUDITOR,),
        spki(load_tls_key(fs, TLS_KEY)),
    )
    assert operator_request_of(fs, (Role.AUDITOR,)) == data


def test_an_operator_of_release_0_1_gets_a_tls_key(fs: SimulatedFileSystem) -> None:
    make_operator(fs, "alice")
    fs.remove(TLS_KEY)
    first = operator_request_of(fs, (Role.OPERATOR,))
    assert open_request(first).key(KeyUse.TLS) == spki(load_tls_key(fs, TLS_KEY))
    assert operator_request_of(fs, (Role.OPERATOR,)) == first


def test_commands_make_what_a_root_signs(tmp_path: Path) -> None:
    coordinator, person = tmp_path / "coord", tmp_path / "olga"
    addresses = ("--listen", "127.0.0.1:0", "--endpoint", "coordinator.example.org:443")
    _run("init", coordinator, "--request", tmp_path / "coordinator.req", *addresses)
    _run("operator", "init", person, "--request", tmp_path / "olga.req", "--role", "viewer", "--role", "operator")
    for path in ("tls.pem", "tls-issuer.pem", "enrolment-issuer.pem"):
        assert (coordinator / "keys" / path).stat().st_mode & 0o777 == 0o600
    assert (person / "keys/tls.pem").stat().st_mode & 0o777 == 0o600
    network = load_coordinator_config(coordinator).network
    assert (network.listen, network.invited_to) == ("127.0.0.1:0", "coordinator.example.org:443")
    init_root(tmp_path / "root", "eu")
    requests = [(tmp_path / name).read_bytes() for name in ("coordinator.req", "olga.req")]
    signed = sign_roster(tmp_path / "root", requests, now=NOW)
    assert signed.roster.tls_issuer
    assert signed.roster.operators[0].tls_public
    assert any(line.startswith("TLS issuer: added") for line in signed.changes)


def test_a_refused_init_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        _run("init", tmp_path / "coord", "--request", tmp_path / "r", "--listen", "x")
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "coord/keys").exists()
    _run("init", tmp_path / "coord", "--request", tmp_path / "r")


def test_certificates_are_kept_as_pem(fs: SimulatedFileSystem) -> None:
    make_coordinator(fs, NOW)
    issuers = load_issuers(fs)
    assert issuers is not None
    assert fs.read(f"{TLS_ISSUER}.crt") == pem(issuers.tls.certificate)
