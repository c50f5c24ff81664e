# SPDX-License-Identifier: Apache-2.0
"""The consortium's root: a directory of signing keys, kept away from the coordinator, that signs rosters.

root.json                       consortium, threshold, public keys; their fingerprint is what everybody pins
signers/<i>.pem                 private keys; a signer's own copy of the directory needs only theirs
rosters/<version>.roster        complete documents, exact bytes
pending.roster                  a document that still lacks signatures, if there is one

While one document is pending no other one of the same version is begun: two rosters of one version, both with enough
signatures, would split the consortium.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation import dsse, signing
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, FederationError, ObjectNotFoundError, RosterError, UsageError
from federation.ids import check_slug
from federation.key_requests import open_request
from federation.roster import TrustedRosters, peek_roster, root_fingerprint, root_publics, roster_digest
from federation.roster_changes import describe, merge
from federation.roster_document import RootKey, Roster
from federation.roster_rules import check_roster
from federation.wire import roster_to_bytes
from federation.wire.envelope import MAX_SIGNATURES

ROOT_FILE: Final = "root.json"
PENDING: Final = "pending.roster"
_ROSTERS: Final = "rosters"
_MAX_ROOT_FILE_BYTES: Final = 64 * 1024
_DAY_US: Final = 24 * 3600 * 1_000_000
_MAX_VALID_DAYS: Final = 3660


@dataclass(frozen=True, kw_only=True)
class Root:
    """The public side of a consortium's root. `publics` are raw keys in the signers' order, signer 1 first."""

    consortium: str
    threshold: int
    publics: tuple[bytes, ...]

    @property
    def fingerprint(self) -> str:
        """What agents and auditors pin: see `roster.root_fingerprint`."""
        return root_fingerprint(self.empty_roster())

    def empty_roster(self) -> Roster:
        """The roster before the first one: version 0, nobody in it."""
        keys = tuple(RootKey(public=public) for public in sorted(self.publics))
        return Roster(
            consortium=self.consortium,
            version=0,
            issued_at_us=0,
            expires_at_us=0,
            threshold=self.threshold,
            root_keys=keys,
        )


@dataclass(frozen=True, kw_only=True)
class SignedRoster:
    """A roster document after one more signature.

    Attributes:
        document: exact bytes.
        signers: numbers of the signers whose signature it carries.
        missing: signatures that it still needs; 0 means complete.
        changes: what it changes, in sentences.
    """

    document: bytes
    roster: Roster
    signers: tuple[int, ...]
    missing: int
    changes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everybody will accept it."""
        return self.missing == 0


def init_root(path: Path, consortium: str, *, signers: int = 1, threshold: int = 1, now: float | None = None) -> Root:
    """Makes a new root directory with `signers` fresh keys, of which `threshold` must sign each roster.

    Args:
        now: unix seconds; None asks the clock.

    Raises:
        ConfigError: `path` exists, or a number or the id makes no sense. Nothing was created.
    """
    check_slug(consortium, "consortium")
    if not 1 <= threshold <= signers <= MAX_SIGNATURES:
        raise ConfigError(
            f"expected 1 <= threshold <= signers <= {MAX_SIGNATURES}, found threshold {threshold}, signers {signers}"
        )
    fs = RealFileSystem(path.absolute().parent)
    if fs.exists(path.name):
        raise UsageError(f"{path}: expected nothing there, found something", advice="Choose a new directory.")
    keys = [signing.generate_key() for _ in range(signers)]
    root = Root(consortium=consortium, threshold=threshold, publics=tuple(signing.public_bytes(key) for key in keys))
    created_at_us = int((time.time() if now is None else now) * 1e6)
    unfinished = f".tmp-{path.name}"  # published as a whole: a directory without all of its keys never has its name
    fs.remove_tree(unfinished)
    for number, key in enumerate(keys, start=1):
        signing.save_private_key(fs, f"{unfinished}/{_key_path(number)}", key)
    fs.write(f"{unfinished}/{ROOT_FILE}", _root_json(root, created_at_us))
    fs.publish_tree(unfinished, path.name)
    return root


def load_root(root_dir: Path) -> Root:
    """Reads root.json.

    Raises:
        ConfigError: it is missing or says something impossible.
    """
    return _read_root(RealFileSystem(root_dir))


def load_root_rosters(root_dir: Path, now: float) -> TrustedRosters | None:
    """Complete rosters of this root directory, verified; None before the first one.

    Raises:
        ConfigError, RosterError: root.json or a document is not what it should be.
    """
    fs = RealFileSystem(root_dir)
    return _read_rosters(fs, _read_root(fs), int(now * 1e6))


def sign_roster(
    root_dir: Path,
    inputs: Sequence[bytes] = (),
    *,
    now: float,
    signer: int = 0,
    valid_days: int = 365,
    removals: Sequence[str] = (),
    restart: bool = False,
) -> SignedRoster:
    """Makes and signs the next roster from requests, or adds a signature to a roster that others have begun.

    Args:
        inputs: signed requests (none: the same members again, with a new expiry), or one roster document.
        now: unix seconds.
        signer: whose key to use, from 1; 0: the first here that has not signed yet, none if the roster is complete.
        removals: "site:ID" or "operator:ID".
        restart: forget a pending document and make another one of its version.

    Raises:
        ConfigError, RosterError, ProtocolError, BadSignatureError: an option, a rule, an input; nothing was signed.
    """
    fs = RealFileSystem(root_dir)
    root = _read_root(fs)
    now_us = int(now * 1e6)
    rosters = _read_rosters(fs, root, now_us)
    document = _offered(inputs)
    _refuse_pending(None if restart else _read_pending(fs), unless=document)
    if document and removals:
        raise UsageError("expected requests to go with a removal, found a roster that others have begun")
    if document:
        roster = _check_offered(document, root, rosters, now_us)
    else:
        members = _members(root, rosters, inputs, removals)
        roster = _next_roster(members, now_us, valid_days)
    check_roster(roster)
    document = _sign(fs, root, roster, document, signer)
    signed = _result(root, roster, document, rosters)
    _store(fs, signed)
    return signed


def _offered(inputs: Sequence[bytes]) -> bytes:
    """The roster document among the inputs, or b"" if all are requests."""
    documents = [data for data in inputs if dsse.peek_type(data) == dsse.ROSTER_TYPE]
    if not documents:
        return b""
    if len(inputs) > 1:
        raise UsageError(
            f"expected requests, or one roster alone, found {len(documents)} rosters in {len(inputs)} files"
        )
    return documents[0]


def _members(root: Root, rosters: TrustedRosters | None, inputs: Sequence[bytes], removals: Sequence[str]) -> Roster:
    previous = rosters.current if rosters else root.empty_roster()
    return merge(previous, [open_request(data) for data in inputs], removals)


def _next_roster(members: Roster, now_us: int, valid_days: int) -> Roster:
    if not 1 <= valid_days <= _MAX_VALID_DAYS:
        raise ConfigError(f"valid days: expected 1 to {_MAX_VALID_DAYS}, found {valid_days}")
    return replace(
        members, version=members.version + 1, issued_at_us=now_us, expires_at_us=now_us + valid_days * _DAY_US
    )


def _check_offered(document: bytes, root: Root, rosters: TrustedRosters | None, now_us: int) -> Roster:
    """What a signer must know before adding a signature to a document of somebody else's making."""
    roster = peek_roster(document)
    if rosters and roster.version in rosters.versions:
        if roster_digest(document) == roster_digest(rosters.document(roster.version)):
            return roster  # one more signature than needed
        raise RosterError(f"roster version {roster.version}: expected the one that is complete here, found another")
    expected = rosters.current.version + 1 if rosters else 1
    if roster.version != expected:
        raise RosterError(
            f"roster: expected version {expected}, the next one for this directory, found {roster.version}",
            advice="Give it the complete versions in between first, one after the other.",
        )
    if root_fingerprint(roster) != root.fingerprint:
        raise RosterError("roster: expected the consortium, threshold and root keys of this directory, found others")
    if now_us >= roster.expires_at_us:
        raise RosterError(f"roster version {roster.version}: it has expired", advice="Begin it anew with --restart.")
    return roster


def _refuse_pending(pending: bytes | None, unless: bytes) -> None:
    if pending is None or (unless and roster_digest(pending) == roster_digest(unless)):
        return
    version = peek_roster(pending).version
    raise UsageError(
        f"expected no unfinished roster, found version {version} waiting for signatures ({PENDING})",
        advice="Add the missing signatures to it, or use --restart if nobody is going to sign it.",
    )


def _sign(fs: FileSystem, root: Root, roster: Roster, document: bytes, signer: int) -> bytes:
    if document and not signer and len(_signers(root, document)) >= root.threshold:
        return document  # complete already: this directory only takes it up
    key = _signer_key(fs, root, document, signer)
    if document:
        return dsse.add_signature(document, key)
    return dsse.sign_envelope(dsse.ROSTER_TYPE, roster_to_bytes(roster), key)


def _signer_key(fs: FileSystem, root: Root, document: bytes, signer: int) -> Ed25519PrivateKey:
    count = len(root.publics)
    if not 0 <= signer <= count:
        raise ConfigError(f"signer: expected 1 to {count}, found {signer}")
    if not signer:
        done = _signers(root, document) if document else ()
        free = [number for number in range(1, count + 1) if number not in done and fs.exists(_key_path(number))]
        if not free:
            raise UsageError("expected a key here that has not signed yet, found none", advice="Name it: --signer N.")
        signer = free[0]
    key = signing.load_private_key(fs, _key_path(signer))
    if signing.public_bytes(key) != root.publics[signer - 1]:
        raise ConfigError(f"{_key_path(signer)}: expected signer {signer}'s key of {ROOT_FILE}, found another key")
    return key


def _signers(root: Root, document: bytes) -> tuple[int, ...]:
    good = dsse.signers(document, root_publics(root.empty_roster()))
    return tuple(number for number, public in enumerate(root.publics, start=1) if signing.key_id(public) in good)


def _result(root: Root, roster: Roster, document: bytes, rosters: TrustedRosters | None) -> SignedRoster:
    signers = _signers(root, document)
    known = rosters is not None and roster.version in rosters.versions
    base = None if rosters is None or known else rosters.current
    return SignedRoster(
        document=document,
        roster=roster,
        signers=signers,
        missing=max(0, root.threshold - len(signers)),
        changes=() if known else describe(base, roster),
    )


def _store(fs: FileSystem, signed: SignedRoster) -> None:
    if not signed.complete:
        fs.write(PENDING, signed.document)
        return
    fs.write(_roster_path(signed.roster.version), signed.document)
    fs.remove(PENDING)


class _RootFile(BaseModel):
    """root.json as it is parsed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    consortium: str
    threshold: int = Field(ge=1, le=MAX_SIGNATURES)
    root_keys: list[str] = Field(min_length=1, max_length=MAX_SIGNATURES)
    created_at_us: int


def _root_json(root: Root, created_at_us: int) -> bytes:
    keys = [public.hex() for public in root.publics]
    content = _RootFile(
        consortium=root.consortium, threshold=root.threshold, root_keys=keys, created_at_us=created_at_us
    )
    return (json.dumps(content.model_dump(), indent=2) + "\n").encode()


def _read_root(fs: FileSystem) -> Root:
    try:
        content = _RootFile.model_validate_json(fs.read(ROOT_FILE, max_bytes=_MAX_ROOT_FILE_BYTES))
        publics = tuple(bytes.fromhex(key) for key in content.root_keys)
    except ObjectNotFoundError as error:
        raise ConfigError(
            f"expected a consortium root (a directory with {ROOT_FILE}), found none",
            advice="Make one with `federation consortium init`.",
        ) from error
    except (ValidationError, ValueError, FederationError) as error:
        raise ConfigError(f"{ROOT_FILE}: expected what `federation consortium init` wrote, found: {error}") from error
    root = Root(consortium=content.consortium, threshold=content.threshold, publics=publics)
    try:
        check_roster(replace(root.empty_roster(), version=1, expires_at_us=1))
    except RosterError as error:
        raise ConfigError(f"{ROOT_FILE}: {error}") from error
    return root


def _read_rosters(fs: FileSystem, root: Root, now_us: int) -> TrustedRosters | None:
    names = fs.list(_ROSTERS)
    if not names:
        return None
    return TrustedRosters.load((fs.read(f"{_ROSTERS}/{name}") for name in names), root.fingerprint, now_us)


def _read_pending(fs: FileSystem) -> bytes | None:
    try:
        return fs.read(PENDING)
    except ObjectNotFoundError:
        return None


def _key_path(number: int) -> str:
    return f"signers/{number}.pem"


def _roster_path(version: int) -> str:
    return f"{_ROSTERS}/{version:06d}.roster"
