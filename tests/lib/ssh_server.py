# SPDX-License-Identifier: Apache-2.0
"""A real sshd on loopback as a process of the test: own keys, own configuration, own port, the caller's account."""

import getpass
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ports import free_port

_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_PROGRAMS = ("ssh", "sftp", "rsync", "ssh-keygen")
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def why_not() -> str:
    """Why there can be no server here; "" if there can."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not Path(_SSHD).exists():
        missing.append("sshd")
    if missing:
        return f"needs {', '.join(missing)} (Debian: openssh-server, openssh-client, rsync)"
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)  # what its service does before it starts
    return ""


@dataclass(kw_only=True)
class SshServer:
    """One server in a directory; leaving the `with` block ends it.

    Attributes:
        sftp_only: it allows file transfer and no command, as a data mover does.
    """

    directory: Path
    sftp_only: bool = False
    port: int = field(default_factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.identity, self.known_hosts = self.directory / "identity", self.directory / "known_hosts"
        self.log = self.directory / "sshd.log"
        for name in ("host", "identity", "authority"):
            make_key(self.directory / name)
        shutil.copy(f"{self.identity}.pub", self.directory / "authorized")
        kind, key = (self.directory / "host.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        self._configuration().write_text(self._text())

    @property
    def address(self) -> str:
        """user@host:port, to be followed by a path."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def num_logins(self) -> int:
        """Logins that were accepted."""
        return self.log.read_text().count("Accepted publickey")

    @property
    def num_attempts(self) -> int:
        """Connections that were opened, whatever became of them."""
        return self.log.read_text().count("Connection from 127.")

    def start(self) -> Self:
        """Starts it and waits until it listens."""
        since = len(self.log.read_text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            argv = [_SSHD, "-D", "-e", "-f", str(self._configuration())]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._listens(since):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Ends it, and the connections that it serves."""
        if self._process is None:
            return
        for pid in _children(self._process.pid):
            subprocess.run(["kill", str(pid)], check=False, capture_output=True)
        self._process.terminate()
        self._process.wait(30)
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listens(self, since: int) -> bool:
        """By its log: a connection that tries would count as an attempt to log in."""
        return "Server listening" in self.log.read_text()[since:]

    def _configuration(self) -> Path:
        return self.directory / "sshd_config"

    def _text(self) -> str:
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.directory}/host",
            f"PidFile {self.directory}/pid",
            f"AuthorizedKeysFile {self.directory}/authorized",
            f"TrustedUserCAKeys {self.directory}/authority.pub",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE",
            "MaxStartups 100",
            "Subsystem sftp internal-sftp",
            *(["ForceCommand internal-sftp"] if self.sftp_only else []),
        ]
        return "".join(f"{line}\n" for line in lines)


def make_key(path: Path) -> None:
    """An Ed25519 key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
