# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N802 - methods have the names of the RPCs
"""The Enrolment service: translates, and delegates to the desk."""

import time
from collections.abc import Callable

from coordinator.rpc.enrolment import EnrolmentDesk
from coordinator.rpc.gate import peer_name
from coordinator.rpc.interceptor import Caller
from coordinator.rpc.membership import Membership
from coordinator.rpc.workers import Workers
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc


class EnrolmentService(pb_grpc.EnrolmentServicer):
    """Certificates for who may have one."""

    def __init__(self, desk: EnrolmentDesk, workers: Workers, membership: Callable[[], Membership]) -> None:
        self._desk = desk
        self._workers = workers
        self._membership = membership

    async def Enroll(self, request: pb.EnrollRequest, caller: Caller) -> pb.EnrollReply:
        """The answer to a key request; the same one to the same request."""
        identity = caller.identity
        answer = await self._workers.run(
            peer_name(identity),
            self._desk.enroll,
            identity,
            request.token,
            request.request,
            self._membership(),
            time.time(),
        )
        return pb.EnrollReply(
            consortium=answer.consortium,
            certificate=answer.certificate,
            renewal_certificate=answer.renewal_certificate,
            rosters=answer.rosters,
            member=answer.member,
        )
