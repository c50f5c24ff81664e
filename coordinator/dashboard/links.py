# SPDX-License-Identifier: Apache-2.0
"""One-time links to the dashboard: a short statement that somebody of the roster signs with their own key.

Nobody has to be asked to make one, and nothing but the roster is needed to check it. The secret stands behind the `#`
of the link, which browsers send to no server: a proxy's log or a chat's preview cannot use it up.

A link is accepted in this order: 1 its form and length 2 the roster in force names who signed it, with this key 3 the
signature 4 it is of this consortium 5 it has not expired, and does not live longer than a link may 6 who signed it may
give that role 7 nobody has used it before.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.durable import FileSystem
from federation.errors import AccessDeniedError, BadSignatureError, FederationError
from federation.roster_document import OperatorEntry, Role, Roster

CONTEXT: Final = b"hpc-federation dashboard link v1\n"
MAX_SECONDS: Final = 24 * 3600
DEFAULT_SECONDS: Final = 15 * 60
MAX_CHARS: Final = 2000
USED: Final = "dashboard/used"
ADDRESS: Final = "dashboard/address"
"""Where a running dashboard says which address browsers find it at."""


_SLACK_US: Final = 60 * 1_000_000


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who a viewer is: a member of the roster, or whoever was given a link of one, signed with the key `public`."""

    name: str
    role: Role
    public: bytes = field(default=b"", compare=False)

    @property
    def is_auditor(self) -> bool:
        """Whether an auditor's pages are open."""
        return self.role is Role.AUDITOR


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a link says."""

    consortium: str
    operator: str
    role: Role
    expires_at_us: int
    nonce: str


def make_token(grant: Grant, key: Ed25519PrivateKey) -> str:
    """The secret of a link, URL-safe."""
    document = {
        "consortium": grant.consortium,
        "operator": grant.operator,
        "role": grant.role.value,
        "expires_at_us": grant.expires_at_us,
        "nonce": grant.nonce,
    }
    payload = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return f"{_encoded(payload)}.{_encoded(signing.sign(key, CONTEXT + payload))}"


def may_give(entry: OperatorEntry, role: Role) -> bool:
    """Everybody of the roster may let others view; an auditor's pages are an auditor's to open. None opens more."""
    return (role is Role.AUDITOR and role in entry.roles) or (role is Role.VIEWER and bool(entry.roles))


class LinkDesk:
    """Accepts each link once; what was used is remembered on disk until it would have expired."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs

    def accept(self, token: str, roster: Roster, now_us: int) -> Visitor:
        """Uses a link up.

        Raises:
            AccessDeniedError: it does not count; the sentence says why, and how to get another one.
        """
        payload, signature = _parts(token)  # 1
        grant = _grant(payload)
        entry = next((e for e in roster.operators if e.operator == grant.operator), None)
        if entry is None:  # 2
            raise _refused(f"{grant.operator!a:.60} is not in roster version {roster.version}")
        try:
            signing.verify(entry.public, signature, CONTEXT + payload)  # 3
        except BadSignatureError:
            raise _refused("its signature is not that of the operator it names") from None
        if grant.consortium != roster.consortium:  # 4
            raise _refused(f"it is of another consortium than {roster.consortium}")
        if now_us >= grant.expires_at_us:  # 5
            raise _refused("it has expired")
        if grant.expires_at_us > now_us + MAX_SECONDS * 1_000_000 + _SLACK_US:
            raise _refused("it would live longer than a link may")
        if not may_give(entry, grant.role):  # 6
            raise _refused(f"{grant.operator} may not give the role {grant.role.value}")
        self._use_up(payload, grant, now_us)  # 7
        return Visitor(name=grant.operator, role=grant.role, public=entry.public)

    def _use_up(self, payload: bytes, grant: Grant, now_us: int) -> None:
        self._forget_expired(now_us)
        name = f"{grant.expires_at_us:020d}-{hashlib.sha256(payload).hexdigest()[:32]}"
        if not self._fs.create(f"{USED}/{name}", b"used\n"):
            raise _refused("it has been used already")

    def _forget_expired(self, now_us: int) -> None:
        for name in self._fs.list(USED):
            expires, _, _ = name.partition("-")
            if expires.isdigit() and int(expires) < now_us:
                self._fs.remove(f"{USED}/{name}")


def _parts(token: str) -> tuple[bytes, bytes]:
    payload, dot, signature = token.partition(".")
    if len(token) > MAX_CHARS or not dot:
        raise _refused("it is not whole; copy all of it")
    try:
        return _decoded(payload), _decoded(signature)
    except (binascii.Error, ValueError):
        raise _refused("it is not whole; copy all of it") from None


def _grant(payload: bytes) -> Grant:
    try:
        found = json.loads(payload)
        return Grant(
            consortium=str(found["consortium"]),
            operator=str(found["operator"]),
            role=Role(found["role"]),
            expires_at_us=int(found["expires_at_us"]),
            nonce=str(found["nonce"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise _refused("it says nothing that this release understands") from None


def _refused(why: str) -> FederationError:
    return AccessDeniedError(
        f"This link is refused: {why}.", advice="Ask for a new one: `coordinator dashboard link --as OPERATOR_DIR`."
    )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
