# SPDX-License-Identifier: Apache-2.0
"""`site-agent enroll`, `courier`, `doctor`, `status`, `tick` against the real server, as an operator uses them."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from courier_world import wait_until
from network_bench import Bench, invite, membership_of, revoke

from coordinator.rpc.enrolment import EnrolmentDesk
from federation.certificates import bootstrap_subject, der, generate_tls_key, key_pem, pem, site_subject, spki
from federation.durable.real import RealFileSystem
from federation.errors import CertificateError, ConfigError, FederationError, InviteError, RevokedError, RosterError
from federation.invite import Invite, encode_invite, new_token, read_invite, write_invite
from federation.key_requests import open_request
from federation.leaves import PartyKind
from federation.roster import root_fingerprint
from federation.roster_document import KeyUse, SiteEntry
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint
from federation.rpc.enrolment import enrolled_to_bytes
from federation.rpc.status import CourierStatus
from federation.testing.rosters import MemoryConsortium
from site_agent.cli.main import cli
from site_agent.courier.choice import read_status
from site_agent.courier.switch import CourierSwitch
from site_agent.site_config import load_site_config

SITE = "jupiter"


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, FederationError | SystemExit):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result


def fails(error: type[FederationError], *arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert isinstance(result.exception, error), (result.output, result.exception)
    return result.exception.diagnostics()


@dataclass(kw_only=True)
class Newcomer:
    """A site that was initialised, and an invite for it."""

    bench: Bench
    directory: Path
    invite: Invite
    root: str

    @property
    def fs(self) -> RealFileSystem:
        return RealFileSystem(self.directory)

    @property
    def file(self) -> Path:
        path = self.directory.parent / "invite"
        path.write_bytes(encode_invite(self.invite))
        return path

    def enroll(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            run("enroll", self.directory, "--invite", self.file, "--root", self.root, "--json").output
        )
        return found

    def refused(self, error: type[FederationError], *, root: str | None = None) -> str:
        """The invite is refused, and nothing is kept of it."""
        before = sorted(path for path in self.directory.rglob("*"))
        words = fails(error, "enroll", self.directory, "--invite", self.file, "--root", root or self.root)
        assert sorted(path for path in self.directory.rglob("*")) == before
        return words

    def sign_in(self, entry: SiteEntry | None = None) -> None:
        """The consortium root names the newcomer, or `entry`, in the next roster."""
        request = open_request((self.directory.parent / "site.req").read_bytes())
        membership = self.bench.membership
        entry = entry or SiteEntry(
            site=SITE,
            tls_public=request.key(KeyUse.TLS),
            update_public=request.key(KeyUse.ENVELOPES),
            witness_public=request.key(KeyUse.WITNESS),
        )
        roster = membership.roster
        sites = tuple(sorted((*roster.sites, entry), key=lambda found: found.site))
        roster = replace(roster, version=roster.version + 1, sites=sites)
        document = self.bench.consortium.document(roster)
        self.bench.change(replace(membership, roster=roster, rosters=(*membership.rosters, document)))


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    directory = tmp_path / SITE
    run("init", directory, "--request", tmp_path / "site.req")
    with Bench(directory=tmp_path / "coordinator") as bench:
        key, token, expires = generate_tls_key(), new_token(), time.time() + 3600
        bench.change(membership_of(bench.consortium, without=(SITE,)))
        digest = hashlib.sha256(bytes.fromhex(token)).hexdigest()
        bench.change(invite(bench.membership, PartyKind.SITE, SITE, digest, expires))
        subject = bootstrap_subject("eu", PartyKind.SITE, SITE)
        certificate = bench.consortium.issuers().issue(subject, spki(key), time.time(), 3600.0)
        root = root_fingerprint(bench.membership.roster)
        given = Invite(
            consortium="eu",
            kind=PartyKind.SITE,
            id=SITE,
            root=root,
            endpoint=bench.server.address,
            tls_issuer=pem(bench.consortium.issuer().certificate).decode(),
            certificate=pem(certificate).decode(),
            key=key_pem(key).decode(),
            token=token,
            expires_at_us=int(expires * 1e6),
        )
        yield Newcomer(bench=bench, directory=directory, invite=given, root=root)


# --- by invite --------------------------------------------------------------------------------------------------------


def test_an_invite_gives_certificate_rosters_and_endpoint(newcomer: Newcomer) -> None:
    facts = newcomer.enroll()
    assert (facts["member"], facts["consortium"], facts["roster_version"]) == (False, "eu", 1)
    assert facts["certificate_days"] > 29.9
    assert facts["endpoint"] == newcomer.bench.server.address
    assert newcomer.fs.read("root").decode() == newcomer.root
    again = newcomer.enroll()  # the reply was lost: the same certificate
    assert abs(again["certificate_days"] - facts["certificate_days"]) < 0.01
    assert read_invite(newcomer.file) == newcomer.invite


def test_a_member_after_the_root_signed(newcomer: Newcomer) -> None:
    newcomer.enroll()
    newcomer.sign_in()
    facts = json.loads(run("enroll", newcomer.directory, "--json").output)
    assert (facts["member"], facts["roster_version"]) == (True, 2)


def test_a_roster_that_names_the_site_with_other_keys(newcomer: Newcomer) -> None:
    newcomer.sign_in(MemoryConsortium(seed="other", sites=(SITE,)).site_entry(SITE))
    assert newcomer.enroll()["member"] is False
    text = run("enroll", newcomer.directory, "--invite", newcomer.file, "--root", newcomer.root).output
    assert "with other keys" in text
    assert "new request" in text


def test_a_revoked_site_is_told_the_way_back(newcomer: Newcomer) -> None:
    newcomer.sign_in()
    newcomer.enroll()
    newcomer.bench.change(revoke(newcomer.bench.membership, SITE))
    words = fails(RevokedError, "enroll", newcomer.directory)
    for step in (f"site-agent init NEW_DIR --site {SITE}", "invite", "root sign", "enroll NEW_DIR"):
        assert step in words


def test_a_wrong_fingerprint_is_refused_by_the_site(newcomer: Newcomer) -> None:
    words = newcomer.refused(InviteError, root="ab" * 32)
    assert "Nothing was kept" in words


def test_an_invite_whose_root_is_not_the_rosters(newcomer: Newcomer) -> None:
    """The invite was made by an impostor together with the fingerprint; the roster tells."""
    newcomer.invite = replace(newcomer.invite, root="cd" * 32)
    assert "fingerprint" in newcomer.refused(RosterError, root="cd" * 32)


def test_an_invite_with_another_tls_issuer(newcomer: Newcomer) -> None:
    other = MemoryConsortium(seed="other").issuer()
    newcomer.invite = replace(newcomer.invite, tls_issuer=pem(other.certificate).decode())
    assert "coordinator" in newcomer.refused(FederationError)


def test_an_invite_for_somebody_else(newcomer: Newcomer) -> None:
    newcomer.invite = replace(newcomer.invite, id="lumi")
    assert "for site jupiter, found one for site lumi" in newcomer.refused(InviteError)


def test_an_invite_that_expired(newcomer: Newcomer) -> None:
    newcomer.invite = replace(newcomer.invite, expires_at_us=int((time.time() - 7200) * 1e6))
    assert "expired 2 hours ago" in newcomer.refused(InviteError)


def test_an_invite_whose_own_date_was_edited(newcomer: Newcomer) -> None:
    """Its certificate ends with it."""
    key = generate_tls_key()
    subject = bootstrap_subject("eu", PartyKind.SITE, SITE)
    issuers = newcomer.bench.consortium.issuers()
    certificate = pem(issuers.issue(subject, spki(key), time.time() - 4000, 3600.0)).decode()
    newcomer.invite = replace(newcomer.invite, certificate=certificate, key=key_pem(key).decode())
    words = newcomer.refused(InviteError)
    assert "invite: expired 7 minutes ago" in words
    assert "new invite" in words


def test_an_invite_with_another_token(newcomer: Newcomer) -> None:
    newcomer.invite = replace(newcomer.invite, token=new_token())
    assert "token" in newcomer.refused(InviteError)


def test_an_invite_that_somebody_else_used(newcomer: Newcomer, tmp_path: Path) -> None:
    run("init", tmp_path / "thief" / SITE, "--request", tmp_path / "thief.req")
    run("enroll", tmp_path / "thief" / SITE, "--invite", newcomer.file, "--root", newcomer.root)
    assert "was used" in newcomer.refused(InviteError)


PYTHON_WORDS = re.compile(r"PartyKind|non-hexadecimal|not a valid|Expecting|codec|Errno|Traceback|<")


@pytest.mark.parametrize("name", ["key", "certificate", "tls_issuer"])
@pytest.mark.parametrize("how", ["cut", "changed", "another"])
def test_an_invite_with_a_damaged_key_or_certificate(newcomer: Newcomer, name: str, how: str) -> None:
    text = getattr(newcomer.invite, name)
    middle = len(text) // 2
    another = "B" if text[middle] == "A" else "A"
    other = {"key": key_pem(generate_tls_key()).decode(), "certificate": newcomer.invite.tls_issuer}
    damaged = {
        "cut": text[:middle],
        "changed": text[:middle] + another + text[middle + 1 :],
        "another": other.get(name, newcomer.invite.certificate),
    }
    newcomer.invite = replace(newcomer.invite, **{name: damaged[how]})
    words = newcomer.refused(FederationError)
    assert "sk the operator for a new one" in words
    if (name, how) != ("certificate", "changed"):  # its signature can only be checked by the coordinator
        assert words.startswith(f"invite {newcomer.file}: was altered or damaged")


def test_an_invite_with_a_certificate_of_another_issuer(newcomer: Newcomer) -> None:
    issuers = MemoryConsortium(seed="other").issuers()
    key = generate_tls_key()
    certificate = issuers.issue(bootstrap_subject("eu", PartyKind.SITE, SITE), spki(key), time.time(), 3600.0)
    newcomer.invite = replace(newcomer.invite, certificate=pem(certificate).decode(), key=key_pem(key).decode())
    words = newcomer.refused(FederationError)
    assert "the invite was altered on its way: ask the operator for a new one" in words


@pytest.mark.parametrize(
    ("name", "value"), [("kind", "siAe"), ("token", "zz" * 32), ("expires_at_us", 10**400), ("root", "é")]
)
def test_what_is_wrong_with_an_invite_is_said_in_plain_words(
    newcomer: Newcomer, tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "altered"
    path.write_text(json.dumps({**json.loads(encode_invite(newcomer.invite)), name: value}))
    words = fails(InviteError, "enroll", newcomer.directory, "--invite", path, "--root", newcomer.root)
    assert words.startswith(f"invite {path}: was altered or damaged on its way: {name}: expected")
    assert PYTHON_WORDS.search(words) is None
    assert "zzzz" not in words


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b'{"format": 1}', b"[" * 10_000, b"\xff" * 100])
def test_a_file_that_is_no_invite(newcomer: Newcomer, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(data)
    words = fails(InviteError, "enroll", newcomer.directory, "--invite", path, "--root", newcomer.root)
    assert "Ask the operator" in words
    assert words.startswith(f"invite {path}: expected")
    assert PYTHON_WORDS.search(words) is None


@pytest.mark.parametrize("name", ["id", "consortium", "root", "endpoint", "tls_issuer", "certificate", "token", "kind"])
@pytest.mark.parametrize("value", ["../x", "", 7, None])
def test_an_invite_that_was_altered(newcomer: Newcomer, tmp_path: Path, name: str, value: object) -> None:
    document = json.loads(encode_invite(newcomer.invite))
    path = tmp_path / "altered"
    path.write_text(json.dumps({**document, name: value}))
    words = fails(InviteError, "enroll", newcomer.directory, "--invite", path, "--root", newcomer.root)
    assert PYTHON_WORDS.search(words) is None


def test_a_fingerprint_is_needed(newcomer: Newcomer) -> None:
    assert "key holder" in fails(ConfigError, "enroll", newcomer.directory, "--invite", newcomer.file)


def test_an_invite_file_is_for_its_owner_alone(newcomer: Newcomer, tmp_path: Path) -> None:
    write_invite(tmp_path / "new", newcomer.invite)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError):
        write_invite(tmp_path / "new", newcomer.invite)


# --- without a network ------------------------------------------------------------------------------------------------


def test_offline_request_and_reply(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.sign_in()
    run("enroll", newcomer.directory, "--request", tmp_path / "request")
    assert (tmp_path / "request").read_bytes() == (tmp_path / "site.req").read_bytes()
    desk = EnrolmentDesk(newcomer.bench.fs, newcomer.bench.consortium.issuers(), "eu")
    answer = desk.certify((tmp_path / "request").read_bytes(), newcomer.bench.membership, time.time())
    reply = tmp_path / "reply"
    reply.write_bytes(enrolled_to_bytes(answer))
    fails(RosterError, "enroll", newcomer.directory, "--reply", reply, "--root", "ab" * 32)
    assert not newcomer.fs.exists("root")
    facts = json.loads(run("enroll", newcomer.directory, "--reply", reply, "--root", newcomer.root, "--json").output)
    assert facts["member"]
    newcomer.fs.remove(credentials.ENDPOINT)
    assert "endpoint" in fails(ConfigError, "courier", "set", newcomer.directory, "grpc")
    run("courier", "set", newcomer.directory, "grpc", "--endpoint", newcomer.bench.server.address)
    reply.write_bytes(b"junk")
    fails(FederationError, "enroll", newcomer.directory, "--reply", reply)


def test_a_reply_for_another_key(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.sign_in()
    desk = EnrolmentDesk(newcomer.bench.fs, newcomer.bench.consortium.issuers(), "eu")
    answer = desk.certify((tmp_path / "site.req").read_bytes(), newcomer.bench.membership, time.time())
    (tmp_path / "reply").write_bytes(enrolled_to_bytes(answer))
    other = tmp_path / "other" / SITE
    run("init", other, "--request", tmp_path / "other.req")
    words = fails(CertificateError, "enroll", other, "--reply", tmp_path / "reply", "--root", newcomer.root)
    assert "another key" in words
    assert "the request that this directory writes" in words
    assert not (other / "root").exists()
    assert not (other / "tls").exists()


@pytest.mark.parametrize("party", [SITE, "lumi"])
def test_a_reply_with_a_certificate_for_another_key_or_site(newcomer: Newcomer, tmp_path: Path, party: str) -> None:
    """Everything else in it is genuine."""
    newcomer.sign_in()
    request = (tmp_path / "site.req").read_bytes()
    issuers = newcomer.bench.consortium.issuers()
    answer = EnrolmentDesk(newcomer.bench.fs, issuers, "eu").certify(request, newcomer.bench.membership, time.time())
    public = spki(generate_tls_key()) if party == SITE else open_request(request).key(KeyUse.TLS)
    wrong = der(issuers.issue(site_subject("eu", party), public, time.time()))
    for altered in (replace(answer, certificate=wrong), replace(answer, renewal_certificate=wrong)):
        (tmp_path / "reply").write_bytes(enrolled_to_bytes(altered))
        reply = ("--reply", tmp_path / "reply")
        words = fails(CertificateError, "enroll", newcomer.directory, *reply, "--root", newcomer.root)
        assert PYTHON_WORDS.search(words) is None
        assert "This answer is for" in words
        assert not newcomer.fs.exists("root")
        assert not newcomer.fs.exists("tls")


# --- courier, doctor, status, tick ------------------------------------------------------------------------------------


def test_the_grpc_courier_needs_enrolment_first(newcomer: Newcomer) -> None:
    fails(ConfigError, "courier", "set", newcomer.directory, "grpc")
    fails(ConfigError, "courier", "set", newcomer.directory, "grpc", "--endpoint", "nonsense")
    assert json.loads(run("courier", "show", newcomer.directory, "--json").output)["courier"] == "spool"


@pytest.fixture
def member(newcomer: Newcomer) -> Newcomer:
    newcomer.sign_in()
    newcomer.enroll()
    run("courier", "set", newcomer.directory, "grpc")
    return newcomer


def checks(directory: Path, code: int) -> dict[str, dict[str, str]]:
    document = json.loads(run("doctor", directory, "--json", code=code).output)
    assert document["ok"] == (code == 0)
    return {found["check"]: found for found in document["checks"]}


def test_the_doctor_finds_nothing(member: Newcomer) -> None:
    found = checks(member.directory, 0)
    assert {check["verdict"] for check in found.values()} == {"ok"}
    ways = ["network", "proxy", "round trip", "inodes", "writing", "credentials"]
    numerics = ["compiler", "golden vectors"]
    assert list(found) == ["configuration", "roster", "certificate", "courier", "clock", "disk", *ways, *numerics]
    assert found["compiler"]["found"].startswith("numba ")
    lines = run("doctor", member.directory).output.splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("ok ") for line in lines)


def test_the_doctor_of_a_site_that_cannot_reach_anybody(member: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_agent.doctor._vectors", lambda case: ("ok", "", ""))
    credentials.write_endpoint(member.fs, Endpoint.parse("127.0.0.1:1"))
    found = checks(member.directory, 1)
    assert (found["courier"]["verdict"], found["clock"]["verdict"]) == ("failed", "skipped")
    assert "nothing listens there" in found["courier"]["found"]
    assert "endpoint" in found["courier"]["advice"]


def test_the_doctor_of_clocks_that_differ(member: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    from site_agent.courier import grpc

    genuine = grpc.probe
    monkeypatch.setattr(grpc, "probe", lambda fs, config: replace(genuine(fs, config), clock_ahead_seconds=-600.0))
    found = checks(member.directory, 1)
    assert found["clock"]["verdict"] == "failed"
    assert "600.0 s behind" in found["clock"]["found"]


def test_the_doctor_of_a_broken_directory(newcomer: Newcomer) -> None:
    (newcomer.directory / "site.toml").write_text("site = 3")
    found = checks(newcomer.directory, 1)
    assert found["configuration"]["verdict"] == "failed"
    assert found["roster"]["verdict"] == "failed"
    assert found["courier"]["verdict"] == "skipped"
    assert found["certificate"]["verdict"] == "skipped"


def test_the_doctor_of_a_spool_site(newcomer: Newcomer) -> None:
    newcomer.sign_in()
    newcomer.enroll()
    found = checks(newcomer.directory, 0)
    assert found["courier"]["verdict"] == "warning"
    assert "spool" in found["courier"]["found"]


def test_one_tick_carries_both_ways(member: Newcomer) -> None:
    run("tick", member.directory)
    brought = f"mailbox/{SITE}/in"
    names = [name for name in member.bench.fs.list(brought) if name.endswith(".msg")]
    assert names != []
    assert "certificate: 30.0 days left" in run("status", member.directory).output


def test_a_tick_without_a_coordinator_works_on(member: Newcomer) -> None:
    credentials.write_endpoint(member.fs, Endpoint.parse("127.0.0.1:1"))
    result = run("tick", member.directory)
    assert "nothing listens there" in result.stderr
    assert [name for name in member.fs.list("spool/mailbox/coordinator/out") if name.endswith(".msg")] != []


def shown(member: Newcomer, switch: CourierSwitch, condition: Callable[[CourierStatus], bool]) -> CourierStatus:
    """What `courier show` reads, once it fulfils a condition; the agent goes on meanwhile."""

    def look() -> CourierStatus | None:
        switch.follow()
        status = read_status(member.fs)
        return status if status is not None and condition(status) else None

    found: CourierStatus = wait_until(look, "another status")
    return found


def test_a_serving_agent_changes_over(member: Newcomer) -> None:
    config = load_site_config(member.directory)
    with closing(CourierSwitch(member.fs, config, threading.Event())) as switch:
        shown(member, switch, lambda status: status.connected)
        assert "connected for" in run("courier", "show", member.directory).output
        run("courier", "set", member.directory, "spool")
        shown(member, switch, lambda status: status.courier == "spool")
        assert "somebody carries" in run("courier", "show", member.directory).output
        run("courier", "set", member.directory, "grpc")
        shown(member, switch, lambda status: status.connected)
        run("courier", "set", member.directory, "grpc", "--endpoint", "127.0.0.1:1")
        status = shown(member, switch, lambda status: status.failures > 0)
        assert status.endpoint == "127.0.0.1:1"
        text = run("courier", "show", member.directory).output
        assert "NOT CONNECTED" in text
        assert "nothing listens there" in text
        assert "waits in the mailbox" in text
        run("courier", "set", member.directory, "grpc", "--endpoint", member.bench.server.address)
        shown(member, switch, lambda status: status.connected)


def test_the_status_is_written_at_once_while_the_agent_is_busy(member: Newcomer) -> None:
    """The agent's thread calls `follow` between two passes only, and a pass can be long."""
    config = load_site_config(member.directory)
    with closing(CourierSwitch(member.fs, config, threading.Event())) as switch:
        switch.follow()
        wait_until(lambda: (found := read_status(member.fs)) is not None and found.connected, "connected")
        member.bench.server.stop()
        wait_until(lambda: (found := read_status(member.fs)) is not None and not found.connected, "not connected")


def test_a_courier_that_cannot_start_is_tried_again(member: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_agent.courier.switch.RESTART_SECONDS", 0.01)
    key = member.directory / "keys" / "update.pem"
    data = key.read_bytes()
    key.unlink()
    config = load_site_config(member.directory)
    with closing(CourierSwitch(member.fs, config, threading.Event())) as switch:
        assert "update.pem" in shown(member, switch, lambda status: status.failures == 1).sentence
        key.write_bytes(data)
        shown(member, switch, lambda status: status.connected)
