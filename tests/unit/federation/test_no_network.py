# SPDX-License-Identifier: Apache-2.0
"""The guard and the namespace, each in a child process: an audit hook can never be taken out again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from federation.no_network import NO_NETWORK_VARIABLE, network_namespace_prefix


def child(program: str, *, guarded: bool, prefix: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if k != NO_NETWORK_VARIABLE}
    if guarded:
        environment[NO_NETWORK_VARIABLE] = "1"
    command = [*prefix, sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


GUARDED = """
import socket
from federation.errors import PolicyRefusedError
from federation.no_network import forbid_sockets
early = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert forbid_sockets() and forbid_sockets()
def use():
    {use}
try:
    use()
except PolicyRefusedError as error:
    print("refused", error)
"""

USES = {
    "socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "socket6": "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
    "connect": 'early.connect(("127.0.0.1", 9))',
    "bind": 'early.bind(("127.0.0.1", 0))',
    "sendto": 'early.sendto(b"x", ("127.0.0.1", 9))',
    "getaddrinfo": 'socket.getaddrinfo("localhost", 80)',
    "gethostbyname": 'socket.gethostbyname("localhost")',
    "asyncio": 'import asyncio; asyncio.run(asyncio.open_connection("127.0.0.1", 9))',
    "urllib": 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:9/")',
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_guard_refuses_every_use_of_the_network(use: str) -> None:
    done = child(GUARDED.format(use=use), guarded=True)
    assert done.stdout.startswith("refused network: expected no use of it in this process, found "), done.stderr


def test_unix_sockets_stay_possible() -> None:
    done = child(GUARDED.format(use="a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"), guarded=True)
    assert (done.returncode, done.stdout) == (0, "b'x'\n")


def test_without_the_variable_nothing_is_refused() -> None:
    program = "import socket, federation.no_network as n; print(n.forbid_sockets()); socket.socket(socket.AF_INET)"
    assert child(program, guarded=False).stdout == "False\n"


def test_the_variable_counts_only_at_the_start_of_the_process() -> None:
    program = (
        "import os; import federation.no_network as n; os.environ['FEDERATION_NO_NETWORK'] = '1';"
        "print(n.forbid_sockets())"
    )
    assert child(program, guarded=False).stdout == "False\n"


def test_nothing_is_reached_from_inside_the_namespace() -> None:
    prefix = tuple(network_namespace_prefix())
    if not prefix:
        pytest.skip("this user may not make a network namespace")
    program = "import socket; print([n for _, n in socket.if_nameindex()]); print(__import__('os').getpid())"
    process = subprocess.Popen([*prefix, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["['lo']", str(process.pid)]


def test_no_prefix_where_there_is_no_unshare() -> None:
    program = (
        "import os; os.environ['PATH'] = '/nowhere'; import federation.no_network as n;"
        "print(n.network_namespace_prefix())"
    )
    assert child(program, guarded=False).stdout == "[]\n"


def test_no_prefix_where_the_namespace_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "unshare").symlink_to("/bin/false")
    program = (
        f"import os; os.environ['PATH'] = {str(tmp_path)!r}; import federation.no_network as n;"
        "print(n.network_namespace_prefix())"
    )
    assert child(program, guarded=False).stdout == "[]\n"
