# SPDX-License-Identifier: Apache-2.0
"""What a listener on the way gets of a courier's session: TLS 1.3, and nothing to read.

A real courier and a real server, with a proxy between them that records every byte. Addresses, times, amounts and the
server's name in the ClientHello (so the consortium's id) are what a listener sees.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from courier_world import PIECE, SITE, CourierWorld, Side, wait_until, world
from network_bench import Bench, Who, holder_of, subject_of
from recording_proxy import Connection, RecordingProxy
from tls_capture import (
    CLIENT_HELLO,
    TLS_1_2,
    TLS_1_3,
    check_tls_1_3_only,
    negotiated_versions,
    plain_handshake,
    plain_part,
    readable,
    records,
)

from federation.certificates import coordinator_subject, key_pem, pem, server_name
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

ROOT = Path(__file__).resolve().parents[3]
SUBJECT = subject_of(Who.SITE)
UP, DOWN = b"recognisable weights of lumi. ", b"recognisable commit of the coordinator. "
QUESTION, ANSWER = "recognisable-question", "recognisable-answer"


@pytest.fixture
def met(tmp_path: Path) -> Iterator[CourierWorld]:
    with world(tmp_path) as found:
        yield found


@contextmanager
def recorded(met: CourierWorld) -> Iterator[RecordingProxy]:
    """A proxy before the server, which the site dials from now on."""
    with RecordingProxy(met.bench.server.address) as proxy:
        credentials.write_endpoint(met.site, Endpoint.parse(proxy.address))
        yield proxy


def text_of(words: bytes, num_bytes: int) -> bytes:
    return (words * (num_bytes // len(words) + 1))[:num_bytes]


def message_file(side: Side) -> bytes:
    """The name of the one message that lies in out/."""
    (name,) = [name for name in side.fs.list(f"{side.base}/out") if name.endswith(".msg")]
    return name.encode()


def exchanged(met: CourierWorld) -> dict[str, bytes]:
    """A session with messages and blobs both ways; returns what nobody on the way may read."""
    (up,) = met.ours.post(QUESTION, text_of(UP, PIECE + PIECE // 2))
    (down,) = met.theirs.post(ANSWER, text_of(DOWN, PIECE + 5))
    names = {f"name of a file of {side.me}": message_file(side) for side in (met.ours, met.theirs)}

    def acknowledged() -> bool:
        met.pump()
        return not met.ours.mailbox.outstanding

    with met.courier() as courier:
        met.settle([ANSWER], [QUESTION])
        wait_until(acknowledged, "the acknowledgement")
        assert courier.current_status().failures == 0
    return {
        **names,
        **{f"digest {number} as bytes": bytes.fromhex(digest) for number, digest in enumerate((up, down))},
        **{f"digest {number} as text": digest.encode() for number, digest in enumerate((up, down))},
        **secrets_of(met.bench),
    }


def secrets_of(bench: Bench) -> dict[str, bytes]:
    """Words of every session of the site lumi."""
    certificate = bench.consortium.certificate(SUBJECT, holder_of(SUBJECT), 0.0)
    return {
        "site id": SITE.encode(),
        "blob up": UP,
        "blob down": DOWN,
        "message up": QUESTION.encode(),
        "message down": ANSWER.encode(),
        "subject of the site's certificate": certificate.subject.public_bytes(),
        "name in the site's certificate": SUBJECT.uri.encode(),
        "issuer of the certificates": certificate.issuer.public_bytes(),
        "name in the server's certificate": coordinator_subject(bench.consortium.name).uri.encode(),
        "the site's public key": bench.consortium.tls_public(holder_of(SUBJECT)),
        "call": b"/federation.v1.Courier/",
        "content type": b"application/grpc",
    }


def read_by_a_listener(connection: Connection, secrets: Mapping[str, bytes]) -> set[str]:
    return {name for stream in (connection.up, connection.down) for name in readable(bytes(stream), secrets)}


# --- the session ------------------------------------------------------------------------------------------------------


def test_a_session_is_tls_1_3_only_and_shows_nothing(met: CourierWorld) -> None:
    with recorded(met) as proxy:
        secrets = exchanged(met)
    assert sum(len(connection.up) for connection in proxy.connections) > PIECE
    assert sum(len(connection.down) for connection in proxy.connections) > PIECE
    for connection in proxy.connections:
        check_tls_1_3_only(bytes(connection.up), bytes(connection.down))
        assert read_by_a_listener(connection, secrets) == set()


def test_the_server_name_is_all_that_the_hellos_tell(met: CourierWorld) -> None:
    with recorded(met) as proxy:
        met.sync()
    (connection,) = proxy.connections
    assert server_name(met.bench.consortium.name).encode() in plain_part(bytes(connection.up))
    assert server_name(met.bench.consortium.name).encode() not in plain_part(bytes(connection.down))


# --- openssl as a client ----------------------------------------------------------------------------------------------

SERVER = """
import coordinator  # first, as the command does: gRPC reads its ciphers when it is imported
import pathlib, sys, network_bench
with network_bench.Bench(directory=pathlib.Path(sys.argv[1])) as bench:
    print(bench.server.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server in a process of its own, which has imported what `coordinator serve` does, in order."""
    command = [sys.executable, "-c", SERVER, str(tmp_path / "served")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/lib")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(30) == 0


def s_client(bench: Bench, address: str, directory: Path, *options: str) -> tuple[bool, str]:
    """Whether openssl has made a connection with the site's certificate, and what it says about it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl: expected its command here, found none")
    certificate, issuer = directory / "site.pem", directory / "issuer.pem"
    certificate.write_bytes(key_pem(bench.consortium.tls_key(holder_of(SUBJECT))) + bench.certificate(SUBJECT))
    issuer.write_bytes(pem(bench.consortium.issuer().certificate))
    identity = ["-cert", str(certificate), "-key", str(certificate), "-CAfile", str(issuer), "-verify_return_error"]
    name = server_name(bench.consortium.name)
    command = [openssl, "s_client", "-connect", address, "-servername", name, "-verify_hostname", name, "-alpn", "h2"]
    found = subprocess.run(
        [*command, *identity, "-brief", *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    words = (found.stdout + found.stderr).decode(errors="replace")  # with frames of the server
    return found.returncode == 0 and "CONNECTION ESTABLISHED" in words, words


@pytest.mark.processes
def test_openssl_gets_through_with_tls_1_3(served: str, tmp_path: Path) -> None:
    with RecordingProxy(served) as proxy:
        connected, words = s_client(Bench(directory=tmp_path), proxy.address, tmp_path, "-tls1_3")
    assert connected, words
    assert "Protocol version: TLSv1.3" in words
    (connection,) = proxy.connections
    assert negotiated_versions(bytes(connection.down)) == [TLS_1_3]


@pytest.mark.processes
def test_openssl_gets_nowhere_with_less(served: str, tmp_path: Path) -> None:
    """Though it offers every cipher that it has: the server ends it without a hello."""
    for version in ("-tls1_2", "-tls1_1", "-tls1"):
        with RecordingProxy(served) as proxy:
            found = s_client(Bench(directory=tmp_path), proxy.address, tmp_path, version, "-cipher", "ALL:@SECLEVEL=0")
        assert not found[0], found[1]
        (connection,) = proxy.connections
        assert [kind for kind, _ in plain_handshake(bytes(connection.up))] == [CLIENT_HELLO], version
        assert negotiated_versions(bytes(connection.down)) == []
        assert sum(len(record.body) for record in records(bytes(connection.down))[0]) <= 2  # an alert


# --- these checks can fail --------------------------------------------------------------------------------------------


def carried(address: str, channel: grpc.Channel) -> None:
    """A message and a piece of a blob go up a channel, and the same come down."""
    with channel:
        stub: Any = pb_grpc.CourierStub(channel)  # type: ignore[no-untyped-call]
        message = pb.CarriedMessage(name=f"000000000001-{'ab' * 8}.msg", data=QUESTION.encode())
        stub.Push(pb.PushRequest(messages=[message], first_offered=1, next_sequence=2), timeout=30)
        stub.PutBlob(iter([pb.PutBlobRequest(num_bytes=PIECE, data=text_of(UP, PIECE))]), timeout=30)


class Careless(pb_grpc.CourierServicer):
    """Takes everything."""

    def Push(self, request: pb.PushRequest, context: object) -> pb.PushReply:
        return pb.PushReply()

    def PutBlob(self, requests: Iterator[pb.PutBlobRequest], context: object) -> pb.StatBlobReply:
        return pb.StatBlobReply(complete=bool(list(requests)))


def test_a_session_without_tls_would_be_found(met: CourierWorld) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    pb_grpc.add_CourierServicer_to_server(Careless(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with RecordingProxy(f"127.0.0.1:{port}") as proxy:
        carried(proxy.address, grpc.insecure_channel(proxy.address, [("grpc.enable_http_proxy", 0)]))
    server.stop(None).wait()
    (connection,) = proxy.connections
    with pytest.raises(AssertionError, match="expected a ServerHello"):
        check_tls_1_3_only(bytes(connection.up), bytes(connection.down))
    found = read_by_a_listener(connection, secrets_of(met.bench))
    assert found == {"site id", "blob up", "message up", "call", "content type"}


def test_plain_text_after_the_hellos_would_be_found(met: CourierWorld) -> None:
    with recorded(met) as proxy:
        met.sync()
    (connection,) = proxy.connections
    up, down = bytes(connection.up), bytes(connection.down)
    check_tls_1_3_only(up, down)
    plain_alert = b"\x15\x03\x03\x00\x01x"
    for spoiled in ((up + QUESTION.encode(), down), (up, down + ANSWER.encode()), (up, down + plain_alert)):
        with pytest.raises(AssertionError, match=r"expected TLS records|expected nothing else in plain text"):
            check_tls_1_3_only(*spoiled)
    assert readable(up + QUESTION.encode(), secrets_of(met.bench)) == ["message up"]
    assert readable(up + SITE.encode(), secrets_of(met.bench)) == ["site id"]


def test_a_session_with_tls_1_2_would_be_found(met: CourierWorld, tmp_path: Path) -> None:
    """It shows both certificates."""
    with one_tls_1_2_server(met.bench, tmp_path) as address, RecordingProxy(address) as proxy:
        connected, words = s_client(met.bench, proxy.address, tmp_path, "-tls1_2")
        assert connected, words
    (connection,) = proxy.connections
    assert negotiated_versions(bytes(connection.down)) == [TLS_1_2]
    with pytest.raises(AssertionError, match="0x0304"):
        check_tls_1_3_only(bytes(connection.up), bytes(connection.down))
    assert read_by_a_listener(connection, secrets_of(met.bench)) >= {
        "site id",
        "subject of the site's certificate",
        "name in the site's certificate",
        "issuer of the certificates",
        "name in the server's certificate",
        "the site's public key",
    }


@contextmanager
def one_tls_1_2_server(bench: Bench, directory: Path) -> Iterator[str]:
    """Serves one connection with the coordinator's certificate."""
    consortium, path = bench.consortium, directory / "server.pem"
    certificate = consortium.issuer().issue_server(consortium.name, consortium.tls_public("coordinator"), 1.7e9, 1e9)
    path.write_bytes(key_pem(consortium.tls_key("coordinator")) + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version, context.verify_mode = ssl.TLSVersion.TLSv1_2, ssl.CERT_REQUIRED
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=pem(consortium.issuer().certificate).decode())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(client, server_side=True) as peer:
                peer.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield "127.0.0.1:{1}".format(*listener.getsockname())
        thread.join()
