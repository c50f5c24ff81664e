# SPDX-License-Identifier: Apache-2.0
"""Nothing calls home: a guard that refuses network sockets in this process, and an empty network namespace for jobs.

The guard is an audit hook. It sees every socket that Python code opens and cannot be taken out again; native libraries
that call the kernel themselves pass by it. The wall against those is the namespace, where the user may make one.
"""

import os
import shutil
import socket
import subprocess
import sys
from functools import cache
from typing import Final

from federation.errors import PolicyRefusedError

NO_NETWORK_VARIABLE: Final = "FEDERATION_NO_NETWORK"
"""Environment variable; "1" at the start of a process asks for the guard."""

_NETWORK_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})

_LOOKUPS: Final = frozenset(
    {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
)
_USES: Final = frozenset({"socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"})

_PROBE_SECONDS: Final = 10.0

_asked_at_start = os.environ.get(NO_NETWORK_VARIABLE) == "1"
_installed = False


def forbid_sockets() -> bool:
    """Installs the guard if the environment asked for it when this process started; returns whether it stands.

    From then on making, binding or connecting an IPv4 or IPv6 socket and looking up a name raise `PolicyRefusedError`.
    Unix sockets stay possible. Calling it again changes nothing.
    """
    global _installed
    if _asked_at_start and not _installed:
        sys.addaudithook(_refuse)
        _installed = True
    return _installed


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith("socket."):
        return
    if event == "socket.__new__":
        refused = arguments[1] in _NETWORK_FAMILIES
    elif event in _USES:
        # A socket that was opened before the guard, or handed over by a parent process.
        refused = getattr(arguments[0], "family", None) in _NETWORK_FAMILIES
    else:
        refused = event in _LOOKUPS
    if refused:
        raise PolicyRefusedError(
            f"network: expected no use of it in this process, found {event.removeprefix('socket.')}",
            advice=f"{NO_NETWORK_VARIABLE}=1 forbids it; start the process without that variable to allow it.",
        )


def network_namespace_prefix() -> list[str]:
    """Command prefix that runs a program without any network, `[]` if this user may not make such a namespace.

    The program replaces the prefix's process: its process id is the one that was started. Tried once per process.
    """
    return list(_probed_prefix())


@cache
def _probed_prefix() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    # Releases of util-linux before 2.34 can only map the user to root of the new namespace.
    candidates = [(unshare, mapping, "--net", "--") for mapping in ("--map-current-user", "--map-root-user")]
    return next((prefix for prefix in candidates if _works(prefix)), ())


def _works(prefix: tuple[str, ...]) -> bool:
    try:
        probe = subprocess.run([*prefix, "true"], capture_output=True, timeout=_PROBE_SECONDS, check=False)
        return probe.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
