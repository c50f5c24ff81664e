# SPDX-License-Identifier: Apache-2.0
"""One ssh login that rsync and sftp share, by the system's own `ssh`.

A login costs a login node's patience, and often a human's second factor. So there is one connection that the others go
through (ControlMaster), and nothing but `SshSession.ensure` ever logs in: what goes through the connection is told
a proxy that fails, and so cannot fall back to a login of its own when the connection is gone.
"""

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from federation.durations import in_words
from federation.errors import ConfigError, FederationError, LoginRefusedError, PeerUnavailableError
from site_agent.carrier.process import Programs
from site_agent.carrier.remote import RemoteAddress

_CONNECT_SECONDS: Final = 30
_FORCED: Final = (
    "BatchMode yes",
    "StrictHostKeyChecking yes",
    "NumberOfPasswordPrompts 0",
    "ClearAllForwardings yes",
    "ForwardAgent no",
    "ForwardX11 no",
    "PermitLocalCommand no",
    "RequestTTY no",
    "EscapeChar none",
    "LogLevel ERROR",
)
"""ssh takes the first value that it finds for a word: these come first, whatever the operator's files say."""

_ALIVE: Final = (f"ConnectTimeout {_CONNECT_SECONDS}", "ServerAliveInterval 15", "ServerAliveCountMax 4")
_NEVER_GIVEN: Final = {line.split()[0].lower() for line in _FORCED} | {
    "controlmaster",
    "controlpath",
    "controlpersist",
    "localcommand",
    "include",
    "host",
    "match",
}
_OPTION: Final = re.compile(r"([A-Za-z][A-Za-z0-9]{1,60})\s*[= ]\s*(\S.*)")

_HOST_KEY: Final = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|no matching host key")
_REFUSED: Final = re.compile(
    r"Permission denied|Too many authentication failures|[Cc]ertificate .*(?:expired|invalid)|Load key|"
    r"sign_and_send_pubkey|account .*(?:expired|locked)|password .*expired|UNPROTECTED PRIVATE KEY",
)


@dataclass(frozen=True, kw_only=True)
class SshSettings:
    """How to log in.

    Attributes:
        address: where.
        identity: private key file; "" for what ssh finds by itself (its agent, its configuration).
        options: more of ssh_config(5), "Word=value" each.
        persist_seconds: how long the connection outlives its last use, and so a killed carrier.
    """

    address: RemoteAddress
    identity: str = ""
    options: tuple[str, ...] = ()
    persist_seconds: int = 120


class SshSession:
    """The shared connection."""

    def __init__(self, settings: SshSettings, programs: Programs, directory: Path) -> None:
        """Writes ssh's configuration into a private directory.

        Raises:
            ConfigError: an option that cannot be one, or that would make the login unsafe.
        """
        self._settings, self._programs = settings, programs
        self._host = settings.address.ssh_host
        self._login, self._through = directory / "login", directory / "through"
        lines = _configuration(settings, directory / "socket")
        programs.fs.place("login", _text([*_FORCED, f"ControlPersist {settings.persist_seconds}", *lines]))
        # No login but by `ensure`: where the connection is gone, the proxy fails.
        alone = ["ControlMaster no", "ProxyCommand exit 1", *lines]
        programs.fs.place("through", _text([*_FORCED, *alone]))

    @property
    def config(self) -> str:
        """The ssh configuration file of what goes through the connection."""
        return str(self._through)

    @property
    def shell(self) -> str:
        """ssh as rsync's -e takes it."""
        return f"ssh -F {shlex.quote(self.config)}"

    def ensure(self) -> None:
        """Logs in, once, if there is no connection.

        Raises:
            LoginRefusedError: only a human can help.
            PeerUnavailableError: nobody answers there now.
        """
        if self._is_connected():
            return
        self._expect_valid_certificate()
        argv = ["ssh", "-F", str(self._login), "-o", "ControlMaster=yes", "-f", "-N", "--", self._host]
        done = self._programs.run(argv)
        if done.code:
            raise _refusal(self._settings.address, done.complaint)

    def close(self) -> None:
        """Ends the connection; what is gone is gone."""
        self._programs.run(["ssh", "-F", self.config, "-O", "exit", "--", self._host], to_its_end=True)

    def certificate_seconds_left(self, now: float) -> float | None:
        """How long the certificate beside the identity is valid yet; None without one, or if it never expires."""
        identity = self._settings.identity
        certificate = Path(f"{identity}-cert.pub")
        if not identity or not certificate.is_file():
            return None
        found = self._programs.run(["ssh-keygen", "-L", "-f", str(certificate)]).output
        until = re.search(r"^\s*Valid: (?:from \S+ to|before) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)$", found, re.MULTILINE)
        return datetime.fromisoformat(until[1]).timestamp() - now if until else None

    def _is_connected(self) -> bool:
        return self._programs.run(["ssh", "-F", self.config, "-O", "check", "--", self._host]).code == 0

    def _expect_valid_certificate(self) -> None:
        """An expired one is not worth a login attempt: they are counted."""
        left = self.certificate_seconds_left(time.time())
        if left is not None and left <= 0:
            raise LoginRefusedError(
                f"{self._settings.address}: waiting for a human: expected a valid certificate, found that "
                f"{self._settings.identity}-cert.pub expired {in_words(-left)} ago",
                advice="Renew the certificate; the carrier notices by itself.",
            )


def _configuration(settings: SshSettings, socket: Path) -> list[str]:
    """Lines that both configurations have: the operator's options, then where and how, then the operator's files."""
    address = settings.address
    lines = [_checked_option(option) for option in settings.options]
    lines += [f"ControlPath {_quoted(str(socket))}"]
    if address.user:
        lines.append(f"User {_quoted(address.user)}")
    if address.port:
        lines.append(f"Port {address.port}")
    if settings.identity:
        lines += [f"IdentityFile {_quoted(settings.identity)}", "IdentitiesOnly yes"]
    return [*lines, *_ALIVE, "Include ~/.ssh/config", "Include /etc/ssh/ssh_config"]


def _checked_option(option: str) -> str:
    found = _OPTION.fullmatch(option)
    if found is None or not option.isprintable():
        raise ConfigError(f"--ssh-option: expected Word=value of ssh_config(5), found {option!r:.100}")
    if found[1].lower() in _NEVER_GIVEN:
        raise ConfigError(
            f"--ssh-option: expected a word that the carrier does not set itself, found {found[1]}",
            advice="Host keys are always checked, and nothing is ever asked: put the host's key into known_hosts.",
        )
    return f"{found[1]} {found[2]}"


def _quoted(value: str) -> str:
    if '"' in value or not value.isprintable():
        raise ConfigError(f"ssh: expected a value without quotation marks, found {value!r:.200}")
    return '"' + value.replace("%", "%%") + '"'


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _refusal(address: RemoteAddress, complaint: str) -> FederationError:
    if _HOST_KEY.search(complaint):
        return LoginRefusedError(
            f"{address}: waiting for a human: the host's key is not the one in known_hosts: {complaint}",
            advice="Compare the key with what the centre publishes, then put it into known_hosts.",
        )
    if _REFUSED.search(complaint):
        return LoginRefusedError(
            f"{address}: waiting for a human: the login was refused: {complaint}",
            advice="Renew the certificate or the second factor, or see that the key is allowed there.",
        )
    return PeerUnavailableError(
        f"{address}: expected an ssh connection, found: {complaint or 'none, without a reason'}",
        advice="The other machine may be down, or the address wrong; it is tried again.",
    )
