# SPDX-License-Identifier: Apache-2.0
"""Two machines made of network namespaces, with a slow link between them: real addresses, no loopback in common."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

RATE: Final = "20mbit"
_COMMANDS: Final = ("ip", "tc")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One network namespace."""

    name: str
    address: str

    def argv(self, *command: str) -> list[str]:
        """A command line that runs on this machine."""
        return ["ip", "netns", "exec", self.name, *command]


def why_not() -> str:
    """Why this user cannot make machines here, "" if they can."""
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"needs {' and '.join(missing)} (package iproute2)"
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    probe = f"fed-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return ""


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines, each end of the link limited to `RATE`; they are gone afterwards."""
    number = os.getpid() % 250
    machines = tuple(
        Machine(name=f"fed-{os.getpid()}-{side}", address=f"10.{200 + side}.{number}.1") for side in (0, 1)
    )
    try:
        for machine in machines:
            _run("ip", "netns", "add", machine.name)
            _run(*machine.argv("ip", "link", "set", "lo", "up"))
        _link(*machines)
        yield machines[0], machines[1]
    finally:
        for machine in machines:
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", machine.name)


def _link(one: Machine, other: Machine) -> None:
    _run(*one.argv("ip", "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", other.name))
    for machine, peer in ((one, other), (other, one)):
        _run(*machine.argv("ip", "address", "add", f"{machine.address}/32", "dev", "link0"))
        _run(*machine.argv("ip", "link", "set", "link0", "up"))
        _run(*machine.argv("ip", "route", "add", f"{peer.address}/32", "dev", "link0"))
        shape = ("root", "tbf", "rate", RATE, "burst", "64kb", "latency", "50ms")
        _run(*machine.argv("tc", "qdisc", "add", "dev", "link0", *shape))


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
