# SPDX-License-Identifier: Apache-2.0
"""`coordinator serve --listen` as a process: a directory made by the commands, a port, TLS 1.3 alone, a clean end."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.cli.main import cli as coordinator_cli
from federation.cli.main import federation as federation_cli

pytestmark = pytest.mark.processes


def made(directory: Path) -> Path:
    """A coordinator's directory with a roster that names it and one operator."""
    home, root, roster = directory / "C", directory / "R", directory / "roster"
    requests = [directory / "c.req", directory / "a.req"]
    for cli, *arguments in (
        (coordinator_cli, "init", home, "--request", requests[0]),
        (coordinator_cli, "operator", "init", directory / "alice", "--request", requests[1]),
        (federation_cli, "consortium", "init", root, "--consortium", "eu"),
        (federation_cli, "consortium", "sign", root, *requests, "--out", roster),
        (coordinator_cli, "roster", "install", home, roster),
    ):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return home


@contextmanager
def served(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `coordinator serve` and its first lines up to the one with the address."""
    command = [sys.executable, "-c", "from coordinator.cli.main import main; main()", "serve", str(home), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            yield process, next((line.split()[-1] for line in lines if line.startswith("listening on")), "")
        finally:
            process.kill()


def handshake(address: str, version: ssl.TLSVersion) -> str | None:
    """The TLS version that the server settles on."""
    host, port = address.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), 20) as bare, context.wrap_socket(bare) as peer:
        return peer.version()


def test_it_prints_its_address_speaks_tls_1_3_alone_and_ends_when_told(tmp_path: Path) -> None:
    home = made(tmp_path)
    with served(home, "--listen", "127.0.0.1:0") as (process, address):
        assert json.loads((home / "status/network.json").read_text())["address"] == address
        assert handshake(address, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(address, ssl.TLSVersion.TLSv1_2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "andshake" not in errors  # strangers fill no log
    assert not (home / "status/network.json").exists()


def test_a_port_that_is_taken_is_a_users_mistake(tmp_path: Path) -> None:
    home, other = made(tmp_path / "1"), made(tmp_path / "2")
    with served(home, "--listen", "127.0.0.1:0") as (_, address), served(other, "--listen", address) as (second, _):
        _, errors = second.communicate(timeout=30)
        assert second.returncode == 2
        assert f"cannot listen on {address}, as --listen or else [network] listen" in errors
        assert "not an address of this machine" in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("listen", ["nowhere", ":0", "127.0.0.1:70000", "127.0.0.1"])
def test_an_address_of_another_form_is_a_users_mistake(tmp_path: Path, listen: str) -> None:
    home = made(tmp_path)
    with served(home, "--listen", listen) as (process, address):
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, address) == (2, "")
        assert "--listen: expected ADDRESS:PORT" in errors
        assert "Traceback" not in errors
