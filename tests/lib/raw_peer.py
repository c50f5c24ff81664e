# SPDX-License-Identifier: Apache-2.0
"""A peer that speaks HTTP/2 frame by frame over TLS, so that it can do what no library lets one do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from network_bench import Bench, holder_of

from federation.certificates import Subject, key_pem, pem, server_name

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4


@dataclass(frozen=True)
class Frame:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def encoded(self) -> bytes:
        head = len(self.payload).to_bytes(3, "big") + bytes([self.kind, self.flags])
        return head + self.stream.to_bytes(4, "big") + self.payload


def header_block(*fields: tuple[str, str]) -> bytes:
    """Literal header fields without indexing, plain strings shorter than 127 bytes (RFC 7541, section 6.2.2)."""
    return b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields
    )


def call_headers(path: str) -> bytes:
    """What opens a gRPC call."""
    return header_block(
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "coordinator"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )


def tls_context(bench: Bench, subject: Subject | None, directory: Path, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A client's side of mutual TLS; None: without a certificate."""
    context = ssl.create_default_context(cadata=pem(bench.consortium.issuer().certificate).decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if subject is not None:
        path = directory / "peer.pem"
        path.write_bytes(key_pem(bench.consortium.tls_key(holder_of(subject))) + bench.certificate(subject))
        context.load_cert_chain(path)
    return context


def connect(bench: Bench, timeout: float = 20.0) -> socket.socket:
    """A bare TCP connection to the server."""
    return socket.create_connection(("127.0.0.1", bench.port), timeout)


def secured(bench: Bench, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS connection to the server."""
    return context.wrap_socket(connect(bench), server_hostname=server_name(bench.consortium.name))


def closed(peer: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    found = b""
    try:
        while piece := peer.recv(65_536):
            found += piece
    except (ConnectionError, ssl.SSLError):
        return found
    return found


class RawPeer:
    """One HTTP/2 connection."""

    def __init__(self, bench: Bench, subject: Subject, directory: Path) -> None:
        self.socket = secured(bench, tls_context(bench, subject, directory, ("h2",)))
        self.socket.sendall(PREFACE + Frame(SETTINGS, 0, 0, b"").encoded())

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def certificate(self) -> x509.Certificate:
        """The server's."""
        der = self.socket.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def send(self, *frames: Frame) -> None:
        """Sends frames."""
        self.socket.sendall(b"".join(frame.encoded() for frame in frames))

    def open(self, path: str, stream: int = 1) -> None:
        """Opens a gRPC call."""
        self.send(Frame(HEADERS, END_HEADERS, stream, call_headers(path)))

    def frames(self) -> Iterator[Frame]:
        """What the server sends, until it closes; settings and pings are answered."""
        while (head := self._exactly(9)) is not None:
            payload = self._exactly(int.from_bytes(head[:3], "big")) or b""
            frame = Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, payload)
            if frame.kind in (SETTINGS, PING) and not frame.flags & ACK:
                self.send(Frame(frame.kind, ACK, 0, payload if frame.kind == PING else b""))
            yield frame

    def end_of(self, stream: int = 1) -> Frame | None:
        """The frame that ends a stream; None if the server closes the connection first."""
        for frame in self.frames():
            if frame.kind == GOAWAY or (frame.stream == stream and is_last(frame)):
                return frame
        return None

    def _exactly(self, count: int) -> bytes | None:
        found = b""
        while len(found) < count:
            try:
                piece = self.socket.recv(count - len(found))
            except (ConnectionError, ssl.SSLError):
                return None
            if not piece:
                return None
            found += piece
        return found


def is_last(frame: Frame) -> bool:
    """Whether nothing of its stream follows."""
    return frame.kind == RST_STREAM or (frame.kind in (HEADERS, DATA) and bool(frame.flags & END_STREAM))
