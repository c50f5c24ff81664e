# SPDX-License-Identifier: Apache-2.0
"""`coordinator site invite` and `coordinator operator invite`: a file that lets somebody ask for a first certificate.

Token and bootstrap key are made here and go into that file alone; the coordinator gets the token's SHA-256 and the
public key, decides, and answers with the bootstrap certificate.
"""

import json
import time
from pathlib import Path
from typing import Any, Final

import click

from coordinator.cli.runs import answer, connected, operator_options
from coordinator.invite_secrets import InviteSecrets, invite_secrets
from coordinator.network_config import check_dialable
from coordinator.operator_client import OperatorClient, load_operator_key, new_id
from federation.certificates import key_pem
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, UsageError
from federation.ids import check_slug
from federation.invite import Invite, write_invite
from federation.leaves import PartyKind
from federation.messages import Command, CommandKind, Query, QueryKind
from federation.rpc.credentials import Endpoint

_KINDS: Final = {PartyKind.SITE: CommandKind.SITE_INVITE, PartyKind.OPERATOR: CommandKind.OPERATOR_INVITE}
_HOUR_US: Final = 3600 * 1_000_000


def _invite_command(kind: PartyKind) -> click.Command:
    @click.command("invite", help=f"Makes an invite file with which {kind.value} NAME can enrol. It is a secret.")
    @click.argument("name", metavar="NAME")
    @click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
    @click.option("--valid-hours", type=float, default=168.0, show_default=True, help="How long; 720 at most.")
    @click.option("--root", default=None, help="Fingerprint of the consortium root; the pinned one if not given.")
    @click.option("--endpoint", default=None, metavar="HOST:PORT", help="Where to enrol; as the coordinator says.")
    @click.option("--command-id", default=None, help="Id of the command, to repeat one safely.")
    @operator_options
    def command(
        name: str,
        out: Path,
        valid_hours: float,
        root: str | None,
        endpoint: str | None,
        command_id: str | None,
        operator_dir: Path,
        coordinator_dir: Path | None,
        wait_seconds: float,
        as_json: bool,
    ) -> None:
        check_slug(name, f"{kind.value} id")
        _check_before(out, valid_hours, endpoint)
        identifier = command_id or new_id()
        key = load_operator_key(RealFileSystem(operator_dir))
        secrets = invite_secrets(key, kind, name, identifier)
        wanted = _wanted(identifier, kind, name, secrets, valid_hours)
        with connected(operator_dir, coordinator_dir) as client:
            fingerprint = _root(client.fs, root)
            _look_before(client, name, endpoint, wait_seconds)
            reply = client.command(wanted, wait_seconds)
        document = json.loads(reply.document)
        invite = _invite(document, kind, name, secrets, fingerprint, endpoint)
        write_invite(out, invite)
        _say(invite, out, {"command": identifier, "leaf": reply.leaf_index}, as_json)

    return command


def _check_before(out: Path, valid_hours: float, endpoint: str | None) -> None:
    """Before anything is ordered."""
    if out.exists():
        raise ConfigError(f"--out: expected a new file, found {out}", advice="Choose another name for it.")
    if not 0 < valid_hours <= 720:
        raise ConfigError(f"--valid-hours: expected more than 0 and at most 720, found {valid_hours:g}")
    if endpoint is not None:
        Endpoint.parse(endpoint)
        check_dialable(endpoint)


def _look_before(client: OperatorClient, name: str, endpoint: str | None, wait_seconds: float) -> None:
    """Before it is ordered: an address that nobody can dial is refused, and of a revoked site is said what it needs."""
    status = client.query(Query(id=new_id(), kind=QueryKind.STATUS), wait_seconds)
    if endpoint is None and status["network"].get("endpoint"):
        check_dialable(status["network"]["endpoint"])
    if any(site["site"] == name and site["state"] == "revoked" for site in status["sites"]):
        click.echo(
            f"{name} is revoked: it comes back only with new keys, made by `site-agent init` in a new directory, once "
            "the consortium root has signed them.",
            err=True,
        )


def _wanted(identifier: str, kind: PartyKind, name: str, secrets: InviteSecrets, valid_hours: float) -> Command:
    return Command(
        id=identifier,
        kind=_KINDS[kind],
        subject=name,
        token_digest=secrets.token_digest,
        public=secrets.public,
        expires_at_us=time.time_ns() // 1000 + int(valid_hours * _HOUR_US),
    )


def _root(fs: RealFileSystem, given: str | None) -> str:
    pinned = fs.read("root").decode().strip()
    if given is not None and given != pinned:
        raise ConfigError(f"--root: expected {pinned}, as pinned in {fs.root}, found {given}")
    return pinned


def _invite(
    document: dict[str, Any], kind: PartyKind, name: str, secrets: InviteSecrets, root: str, endpoint: str | None
) -> Invite:
    """What the coordinator answered, with what only this side knows."""
    address = endpoint or document["endpoint"]
    if not address:
        raise UsageError(
            "the coordinator's configuration names no endpoint",
            advice="Give --endpoint HOST:PORT with the same --command-id, or set `endpoint` in coordinator.toml.",
        )
    return Invite(
        consortium=document["consortium"],
        kind=kind,
        id=name,
        root=root,
        endpoint=address,
        tls_issuer=document["tls_issuer"],
        certificate=document["certificate"],
        key=key_pem(secrets.key).decode(),
        token=secrets.token.hex(),
        expires_at_us=document["expires_at_us"],
    )


def _say(invite: Invite, out: Path, ledger: dict[str, Any], as_json: bool) -> None:
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(invite.expires_at_us / 1e6))
    document = {
        **ledger,
        "kind": invite.kind.value,
        "id": invite.id,
        "file": str(out),
        "endpoint": invite.endpoint,
        "root": invite.root,
        "expires_at_us": invite.expires_at_us,
    }
    sentence = (
        f"Wrote {out}: an invite for {invite.kind.value} {invite.id}, good once, until {until}.\n"
        "Hand it over so that nobody else can read it, and the root's fingerprint by another way:\n"
        + "\n".join(f"  {line}" for line in _next_steps(invite, out.name))
    )
    answer(document, as_json, sentence)


def _next_steps(invite: Invite, file: str) -> tuple[str, ...]:
    """What the invited type. A site's directory is mostly there by then; an operator's is easily forgotten."""
    enroll = f"--invite {file} --root {invite.root}"
    if invite.kind is PartyKind.SITE:
        return (f"site-agent enroll SITE_DIR {enroll}",)
    return (
        f"coordinator operator init {invite.id} --request {invite.id}.req",
        f"coordinator operator enroll {invite.id} {enroll}",
    )


site_invite = _invite_command(PartyKind.SITE)
operator_invite = _invite_command(PartyKind.OPERATOR)
