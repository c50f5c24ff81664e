# SPDX-License-Identifier: Apache-2.0
"""The part of a command's reply with which an operator completes an invite file."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from federation.errors import UsageError
from federation.leaves import InviteIssuedV1
from federation.messages import Command

Invites: TypeAlias = Callable[[InviteIssuedV1, bytes], dict[str, Any]]
"""(invite, public key of its bootstrap certificate, DER) -> what goes into the invite file, as JSON values."""


def invite_document(invites: Invites | None, invite: InviteIssuedV1, command: Command) -> str:
    """The document (JSON) of an invite, for the command that caused it or a repetition of that.

    Raises:
        UsageError: there is no issuer, or a repetition that is none.
        CertificateError: the command's public key is no key.
    """
    if invite.token_digest != command.token_digest:
        raise UsageError(
            f"command {command.id}: invited {invite.kind.value} {invite.party} with another token",
            advice="Repeat a command with all its arguments, or give a new one no --command-id.",
        )
    if invites is None:
        raise UsageError(
            "this coordinator has no TLS issuer in use: it serves no network, so it cannot invite",
            advice="Set [network] listen in coordinator.toml, then serve again.",
        )
    return json.dumps(invites(invite, command.public))
