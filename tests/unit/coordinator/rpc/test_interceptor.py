# SPDX-License-Identifier: Apache-2.0
"""The guard around a handler, over a context in the test's hands."""

import asyncio
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from network_bench import Who, consortium_of, holder_of, membership_of, subject_of

from coordinator.rpc.gate import CallLimits, Gate
from coordinator.rpc.interceptor import Guard, Timing
from coordinator.rpc.piece_budget import PieceBudget
from coordinator.rpc.rates import Complaints
from federation.certificates import der, pem


class Context:
    """A call whose peer has sent one message, and may be gone when it is answered."""

    def __init__(self, certificate: bytes, gone: bool) -> None:
        self.certificate, self.gone = certificate, gone
        self.written: list[bytes] = []
        self.aborted: list[grpc.StatusCode] = []

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self.certificate], "ssl_tls_version": [b"TLSv1.3"]}

    async def read(self) -> bytes:
        return b"question"

    async def write(self, data: bytes) -> None:
        if self.gone:
            raise grpc.aio.InternalError("Failed execute_batch")
        self.written.append(data)

    async def abort(self, code: grpc.StatusCode, *_: Any) -> None:
        self.aborted.append(code)
        raise grpc.aio.AbortError


def serve(answer: Callable[[], bytes], *, gone: bool = False) -> Context:
    consortium = consortium_of()
    issuers, subject = consortium.issuers(), subject_of(Who.SITE)
    certificate = issuers.issue(subject, consortium.tls_public(holder_of(subject)), time.time())
    gate = Gate(
        membership_of(consortium),
        tls_issuer=der(issuers.tls.certificate),
        enrolment_issuer=der(issuers.enrolment.certificate),
        limits=CallLimits(),
    )
    guard = Guard(gate, Timing(), Complaints(logging.getLogger("test.security")), PieceBudget())

    async def handler(request: bytes, caller: Any) -> bytes:
        assert request == b"question"
        return answer()

    async def run() -> Context:
        async def continuation(_: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(handler)

        details: Any = SimpleNamespace(method="/federation.v1.Courier/Pull")
        guarded = await guard.intercept_service(continuation, details)
        context = Context(pem(certificate), gone)
        try:
            await guarded.stream_stream(None, context)
        except grpc.aio.AbortError:
            assert context.aborted
        return context

    context = asyncio.run(run())
    assert gate.num_open == 0
    return context


def test_an_answer_is_written() -> None:
    assert serve(lambda: b"answer").written == [b"answer"]


def test_a_caller_who_has_gone_is_not_our_bug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert serve(lambda: b"answer", gone=True).aborted == []
    assert caplog.records == []


def test_our_own_bug_is_logged_and_told_without_details(caplog: pytest.LogCaptureFixture) -> None:
    def bug() -> bytes:
        raise ZeroDivisionError("secret")

    assert serve(bug).aborted == [grpc.StatusCode.INTERNAL]
    assert "secret" in caplog.text
