# SPDX-License-Identifier: Apache-2.0
"""Real programs between a site and its coordinator, on loopback: an HTTP proxy, an ssh server, ssh, socat."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from ports import free_port

START_SECONDS = 30.0


def program(name: str, package: str) -> str:
    """Path of a program; without it the test skips."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name} (Debian's package {package})")
    return found


@dataclass(kw_only=True)
class Program:
    """A program that listens on a port of loopback while the `with` block lasts."""

    argv: Sequence[str]
    port: int
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            ended = self._process.poll()
            assert ended is None, f"{self.argv[0]} ended with {ended}: {self.log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, f"{self.argv[0]} does not listen: {self.log.read_text()}"
            time.sleep(0.03)

    def stop(self) -> None:
        """By SIGKILL, with every connection that it holds."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def tinyproxy(base: Path, allowed_port: int, login: str = "") -> Program:
    """A real HTTP proxy that opens CONNECT tunnels to one port; `login`: "user password" that it asks for."""
    port, conf = free_port(), base / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 50", f"ConnectPort {allowed_port}"]
    if login:
        lines.append(f"BasicAuth {login}")
    conf.write_text("\n".join([*lines, ""]))
    argv = [program("tinyproxy", "tinyproxy"), "-d", "-c", str(conf)]
    return Program(argv=argv, port=port, log=base / "tinyproxy.log")


@dataclass(kw_only=True)
class SshServer:
    """A real sshd for this user, and how to reach it."""

    base: Path
    sshd: Program

    @classmethod
    def below(cls, base: Path) -> SshServer:
        """With fresh keys in `base`."""
        server, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", base / name], check=True)
        port, conf = free_port(), base / "sshd_config"
        (base / "authorized_keys").write_bytes((base / "user.pub").read_bytes())
        conf.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {base}/host\nAuthorizedKeysFile {base}/authorized_keys\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
            "AllowTcpForwarding yes\nPermitRootLogin prohibit-password\nMaxStartups 100\nPerSourcePenalties no\n"
        )
        if b"PerSourcePenalties" in subprocess.run([server, "-t", "-f", conf], capture_output=True).stderr:
            conf.write_text(conf.read_text().replace("PerSourcePenalties no\n", ""))
        return cls(
            base=base, sshd=Program(argv=[server, "-D", "-e", "-f", str(conf)], port=port, log=base / "sshd.log")
        )

    def client(self, port: int, *options: str) -> Program:
        """`ssh -N` with these options, which open `port` here."""
        argv = [program("ssh", "openssh-client"), "-N", *options, "-i", str(self.base / "user"), "-F", "none"]
        argv += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.base}/known", "-o", "BatchMode=yes"]
        argv += ["-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes", "-p", str(self.sshd.port)]
        return Program(argv=[*argv, "127.0.0.1"], port=port, log=self.base / "ssh.log")


@contextlib.contextmanager
def ssh_forward(base: Path, target: str) -> Iterator[Program]:
    """`ssh -N -L PORT:TARGET LOGIN`."""
    server, port = SshServer.below(base), free_port()
    with server.sshd, server.client(port, "-L", f"127.0.0.1:{port}:{target}") as client:
        yield client


@contextlib.contextmanager
def socks_forward(base: Path, target: str) -> Iterator[Program]:
    """`ssh -N -D SOCKS_PORT LOGIN`, and socat from a port to the target through it."""
    server, socks, port = SshServer.below(base), free_port(), free_port()
    argv = [
        program("socat", "socat"),
        f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
        f"SOCKS4A:127.0.0.1:{target},socksport={socks}",
    ]
    relay = Program(argv=argv, port=port, log=base / "socat.log")
    with server.sshd, server.client(socks, "-D", f"127.0.0.1:{socks}"), relay:
        yield relay
