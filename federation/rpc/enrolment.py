# SPDX-License-Identifier: Apache-2.0
"""Asks the coordinator for a certificate: the first one with an invite, later ones with the one before.

The reply to a request is also a file, for parties without a network: the bytes of an `EnrollReply`.
"""

import logging
from typing import Final

from google.protobuf.message import DecodeError

from federation import certificates, invite
from federation.errors import FederationError, PeerUnavailableError, ProtocolError
from federation.invite import Enrolled, Invite, Party
from federation.roster import TrustedRosters
from federation.rpc import credentials
from federation.rpc.channel import ChannelSettings, explained, open_channel
from federation.rpc.credentials import DIRECT, Certificates, Endpoint, Way
from federation.rpc.transfers import answered
from federation.v1 import courier_pb2 as pb
from federation.v1.courier_pb2_grpc import EnrolmentStub

LOG: Final = logging.getLogger("federation.rpc")

ENROLL_SECONDS: Final = 60.0
MAX_REPLY_BYTES: Final = 9 * 1024 * 1024

_INVITE_ADVICE: Final = "If all that is in order, the invite was altered on its way: ask the operator for a new one."


def enrolled_to_bytes(enrolled: Enrolled) -> bytes:
    """A reply as a file."""
    return pb.EnrollReply(
        consortium=enrolled.consortium,
        certificate=enrolled.certificate,
        renewal_certificate=enrolled.renewal_certificate,
        rosters=enrolled.rosters,
        member=enrolled.member,
        endpoint=enrolled.endpoint,
    ).SerializeToString(deterministic=True)


def enrolled_from_bytes(data: bytes) -> Enrolled:
    """The reply in a file, unverified: see `invite.install`.

    Raises:
        ProtocolError: it is none.
    """
    try:
        if len(data) > MAX_REPLY_BYTES:
            raise ValueError("too large")
        reply = pb.EnrollReply.FromString(data)
        if not reply.certificate or not reply.rosters:
            raise ValueError("no certificate or no roster in it")
    except (DecodeError, ValueError) as error:
        raise ProtocolError(
            f"reply: expected the answer to a request, found {len(data)} other bytes ({error})"
        ) from error
    return _enrolled(reply)


async def enrol(party: Party, found: Invite, root: str, now: float, way: Way = DIRECT) -> TrustedRosters:
    """Redeems an invite and keeps what comes of it; a repetition gives the same.

    Args:
        root: fingerprint that the newcomer was given over another channel.
        now: this machine's clock, seconds since 1970.
        way: how the coordinator is reached.

    Raises:
        InviteError: the invite does not hold, here or at the coordinator.
        RosterError, CertificateError: the answer does not hold; nothing was kept.
        TransportError: nobody answered; try again.
    """
    invite.check_invite(found, party, root, now)
    settings = ChannelSettings(
        endpoint=Endpoint.parse(found.endpoint),
        consortium=found.consortium,
        issuer_pem=found.tls_issuer.encode(),
        certificate_pem=found.certificate.encode(),
        key_pem=found.key.encode(),
        way=way,
    )
    try:
        answer = await ask(settings, bytes.fromhex(found.token), party.request, now)
    except PeerUnavailableError as error:
        raise PeerUnavailableError(str(error), advice=f"{error.advice} {_INVITE_ADVICE}".strip()) from error
    rosters = invite.install(party, answer, root, now, found.tls_issuer.encode())
    credentials.write_endpoint(party.fs, settings.endpoint)
    return rosters


async def renew(party: Party, now: float, way: Way = DIRECT) -> TrustedRosters:
    """Asks for a certificate again: a new one if the present one nears its end; and for all rosters.

    Raises:
        CertificateError: no certificate here can reach enrolment, or the answer does not hold.
        AccessDeniedError, TransportError: as `enrol`.
    """
    settings = party_settings(party, now, way, for_enrolment=True)
    answer = await ask(settings, b"", party.request, now)
    return invite.install(party, answer, credentials.read_text(party.fs, credentials.ROOT_FILE), now)


async def renew_if_due(party: Party, now: float, way: Way = DIRECT) -> str:
    """Renews a certificate that nears its end. Returns why that failed, "" if it did not or was not due.

    Raises:
        FederationError: it failed, and the certificate has expired.
    """
    left = Certificates.read(party.fs).days_left(now)
    if left is None or left >= credentials.RENEW_DAYS:
        return ""
    try:
        await renew(party, now, way)
    except FederationError as error:
        LOG.warning("the certificate, with %.1f days left, could not be renewed: %s", left, error)
        if left <= 0:
            raise
        return str(error)
    LOG.info("the certificate was renewed")
    return ""


def party_settings(party: Party, now: float, way: Way = DIRECT, *, for_enrolment: bool = False) -> ChannelSettings:
    """The channel of an enrolled party, from its directory.

    Raises:
        ConfigError: no roster or endpoint is known, or the key is missing.
        CertificateError: no valid certificate.
    """
    fs = party.fs
    rosters = credentials.require_rosters(fs, int(now * 1_000_000))
    found = Certificates.read(fs)
    usable = found.usable_for_enrolment(now) if for_enrolment else credentials.require_usable(found, now)
    return ChannelSettings(
        endpoint=credentials.require_endpoint(fs),
        consortium=rosters.current.consortium,
        issuer_pem=credentials.trusted_issuer(rosters.current),
        certificate_pem=usable,
        key_pem=certificates.key_pem(certificates.load_tls_key(fs, credentials.TLS_KEY)),
        way=way,
    )


async def ask(settings: ChannelSettings, token: bytes, request: bytes, now: float) -> Enrolled:
    """One `Enroll` call over a channel of its own."""
    async with open_channel(settings) as channel:
        stub = EnrolmentStub(channel)  # type: ignore[no-untyped-call]
        try:
            call = stub.Enroll(pb.EnrollRequest(token=token, request=request), timeout=ENROLL_SECONDS)
            return _enrolled(await answered(call))
        except PeerUnavailableError as error:
            raise explained(error, settings, now) from error


def _enrolled(reply: pb.EnrollReply) -> Enrolled:
    return Enrolled(
        consortium=reply.consortium,
        certificate=reply.certificate,
        renewal_certificate=reply.renewal_certificate,
        rosters=tuple(reply.rosters),
        member=reply.member,
        endpoint=reply.endpoint,
    )
