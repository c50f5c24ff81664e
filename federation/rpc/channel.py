# SPDX-License-Identifier: Apache-2.0
"""Channels to a coordinator: mutual TLS, a server name that follows from the consortium, a proxy only if configured."""

import os
import re
from dataclasses import dataclass
from typing import Final

import grpc

from federation import certificates
from federation.durations import in_words
from federation.errors import CertificateError, ConfigError, PeerUnavailableError, PolicyRefusedError
from federation.no_network import NO_NETWORK_VARIABLE
from federation.rpc.credentials import DIRECT, Endpoint, Way

PROTOCOL_VERSIONS: Final = (1,)
"""Versions of the courier's protocol that this release speaks, ascending."""

MAX_MESSAGE_BYTES: Final = 9 * 1024 * 1024
"""Of one gRPC message: the largest envelope, and room around it."""

MAX_FRAME_BYTES: Final = 256 * 1024
"""Of one HTTP/2 frame: fewer of them cost less, and a message beside a blob waits for no more than one."""

KEEPALIVE_SECONDS: Final = 60
"""Between two pings on an idle connection: often enough for proxies, rarely enough for the server's own limit."""

_PROXY: Final = re.compile(r"http://([!-?A-~]{1,200}@)?[A-Za-z0-9.\-\[\]:]{1,255}:[0-9]{1,5}/?")


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """Everything about one channel.

    Attributes:
        issuer_pem: the authority that the server's certificate must be of.
        certificate_pem, key_pem: of this end.
        way: how the endpoint is reached.
    """

    endpoint: Endpoint
    consortium: str
    issuer_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    way: Way = DIRECT

    @property
    def dialled(self) -> Endpoint:
        """Where the connection goes; the name that the server must prove is the consortium's in any case.

        Raises:
            ConfigError: `connect_to` is of another form, or stands beside a proxy.
        """
        way = self.way
        if not way.connect_to:
            return self.endpoint
        if way.http_proxy:
            raise ConfigError(
                "connect_to: expected no http_proxy beside it, found one", advice="Choose one of the two."
            )
        return Endpoint.parse(way.connect_to)


def open_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """A channel on the running loop; the connection is made by the first call.

    Raises:
        ConfigError: the proxy's address, or that of a forward, is of another form.
        PolicyRefusedError: the environment forbids this process any network.
    """
    if os.environ.get(NO_NETWORK_VARIABLE) == "1":
        raise PolicyRefusedError(
            "network: expected no use of it in this process, found a channel to the coordinator",
            advice=f"{NO_NETWORK_VARIABLE}=1 forbids it; use the courier `spool`, or start without that variable.",
        )
    credentials = grpc.ssl_channel_credentials(settings.issuer_pem, settings.key_pem, settings.certificate_pem)
    return grpc.aio.secure_channel(f"dns:///{settings.dialled}", credentials, options=_options(settings))


def _options(settings: ChannelSettings) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.ssl_target_name_override", certificates.server_name(settings.consortium)),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.http2.max_frame_size", MAX_FRAME_BYTES),
        ("grpc.use_local_subchannel_pool", 1),  # a new channel tries at once, whatever an older one met
        ("grpc.enable_retries", 0),
    ]
    proxy = settings.way.http_proxy
    if not proxy:
        return [*options, ("grpc.enable_http_proxy", 0)]
    if _PROXY.fullmatch(proxy) is None:
        raise ConfigError(
            f"http_proxy: expected http://HOST:PORT, found {_without_password(proxy)[:120]!r}",
            advice="gRPC knows HTTP CONNECT proxies only; with SOCKS, use a local forward: docs/operations/network.md.",
        )
    return [*options, ("grpc.http_proxy", proxy)]


_CAUSES: Final = (
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|[Hh]ostname [Vv]erification|Peer name .* is not in",
        "what answers there is not this consortium's coordinator: its certificate is of another issuer or name",
        "Check the endpoint; if it is right, something between here and there breaks TLS open.",
    ),
    (r"[Cc]onnection refused", "nothing listens there", "Is the coordinator served, and is the endpoint right?"),
    (
        r"DNS resolution failed|Domain name not found|could not be resolved|address lookup failed|errors resolving",
        "this name has no address",
        "Check the endpoint's spelling and this machine's name service.",
    ),
    (
        r"WRONG_VERSION_NUMBER|wrong version number|Missing selected ALPN|Cannot check peer|unexpected eof",
        "what answers there does not speak gRPC over TLS",
        "Check the endpoint; an HTTP server or a proxy may listen there.",
    ),
    (
        r"HTTP proxy|CONNECT",
        "the proxy did not open the way",
        "Check [courier] http_proxy in site.toml, and that the proxy allows CONNECT to the endpoint's port.",
    ),
    (
        r"[Ss]ocket closed|[Cc]onnection reset|GOAWAY|[Cc]ertificate (required|expired)|handshak|[Bb]roken pipe",
        "the connection was cut off; if this happens at once each time, the server does not accept this certificate "
        "(of another issuer, expired, or none), or a firewall cuts TLS",
        "Compare this machine's clock with the coordinator's, and ask an operator whether this site is enrolled.",
    ),
    (
        r"[Tt]imed? ?out|unreachable|deadline",
        "nothing answers there in time",
        "A firewall may drop the packets: is an outbound connection to the endpoint's port allowed here?",
    ),
)


def explained(error: PeerUnavailableError, settings: ChannelSettings, now: float) -> PeerUnavailableError:
    """The same failure with its likely cause in words.

    Raises:
        CertificateError: our own certificate has expired, which servers answer by cutting the connection.
    """
    left = certificates.days_left(certificates.read_certificate(settings.certificate_pem), now)
    if left <= 0:
        raise CertificateError(
            f"this end's certificate expired {in_words(-left * certificates.DAY_SECONDS)} ago by this machine's clock",
            advice="It is renewed by itself; if that fails, ask an operator of the consortium for a new invite.",
        ) from error
    via = _via(settings.way)
    for pattern, words, advice in _CAUSES:
        if re.search(pattern, str(error)):
            return PeerUnavailableError(f"coordinator at {settings.endpoint}{via}: {words}", advice=advice)
    return PeerUnavailableError(f"coordinator at {settings.endpoint}{via}: {error}", advice=error.advice)


def _via(way: Way) -> str:
    if way.connect_to:
        return f" through the forward at {way.connect_to}"
    return f" through proxy {_without_password(way.http_proxy).removeprefix('http://')}" if way.http_proxy else ""


def _without_password(proxy: str) -> str:
    return proxy.rpartition("@")[2]
