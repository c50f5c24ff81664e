# SPDX-License-Identifier: Apache-2.0
"""Every error has a status, travels there and comes back as itself."""

import os
import subprocess
import sys

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from federation import errors
from federation.errors import (
    DeadlineExceededError,
    FederationError,
    OverloadedError,
    PeerUnavailableError,
    ProtocolError,
    ProtocolVersionError,
)
from federation.rpc.errors import (
    MAX_TEXT_CHARACTERS,
    all_errors,
    details,
    error_from,
    status_code,
    trailing_metadata,
)

OURS = sorted(
    (found for found in all_errors() if found.__module__ == errors.__name__), key=lambda found: found.__name__
)


def travelled(error: FederationError) -> FederationError:
    code = status_code(type(error))
    return error_from(AioRpcError(code, Metadata(), Metadata(*trailing_metadata(error)), details=details(error)))


def failed(code: grpc.StatusCode, text: str, *metadata: tuple[str, str]) -> FederationError:
    return error_from(AioRpcError(code, Metadata(), Metadata(*metadata), details=text))


def test_the_walk_finds_the_whole_hierarchy() -> None:
    declared = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, FederationError)}
    assert set(OURS) == declared


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_comes_back(kind: type[FederationError]) -> None:
    code = status_code(kind)
    assert code is not grpc.StatusCode.OK
    assert (code is grpc.StatusCode.UNKNOWN) == (kind is FederationError)
    back = travelled(kind("expected 3, found ä", advice="Do that: 100 % “now”\nplease."))
    assert type(back) is kind
    assert (str(back), back.advice) == ("expected 3, found ä", "Do that: 100 % “now”\nplease.")
    assert back.retryable == kind.retryable


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind.retryable], ids=lambda kind: kind.__name__)
def test_what_may_be_retried_has_a_status_that_says_so(kind: type[FederationError]) -> None:
    retried = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert status_code(kind) in retried


def test_a_new_class_has_the_status_of_its_base() -> None:
    class NewError(errors.RevokedError):
        pass

    assert status_code(NewError) is grpc.StatusCode.PERMISSION_DENIED


def test_metadata_is_printable_ascii() -> None:
    for _, value in trailing_metadata(ProtocolError("x", advice="ü\r\nx: y\x00")):
        assert value.isascii()
        assert value.isprintable()


@pytest.mark.parametrize(("sent", "waited"), [("1500", 1.5), ("-3", 1.0), ("x", 1.0), ("99999999999", 3600.0)])
def test_the_time_to_wait(sent: str, waited: float) -> None:
    metadata = (("federation-error", "OverloadedError"), ("federation-retry-after-ms", sent))
    found = failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", *metadata)
    assert isinstance(found, OverloadedError)
    assert found.retry_after_seconds == waited
    mine = travelled(OverloadedError("slow down", retry_after_seconds=2.5))
    assert isinstance(mine, OverloadedError)
    assert mine.retry_after_seconds == 2.5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, PeerUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.CANCELLED, PeerUnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, errors.AccessDeniedError),
        (grpc.StatusCode.UNIMPLEMENTED, ProtocolVersionError),
        (grpc.StatusCode.INTERNAL, ProtocolError),
    ],
)
def test_a_status_without_a_name(code: grpc.StatusCode, kind: type[FederationError]) -> None:
    assert type(failed(code, "why")) is kind


@pytest.mark.parametrize("name", ["SystemExit", "InvalidTransition", "", "os.system", "X" * 5000])
def test_a_name_that_is_none_of_ours_is_not_believed(name: str) -> None:
    assert type(failed(grpc.StatusCode.INTERNAL, "why", ("federation-error", name))) is ProtocolError


def test_a_peer_cannot_fill_the_screen() -> None:
    found = failed(grpc.StatusCode.INTERNAL, "x" * 100_000, ("federation-advice", "y" * 100_000))
    assert len(found.diagnostics()) < 3 * MAX_TEXT_CHARACTERS


def test_grpc_writes_no_lines_of_its_own() -> None:
    """It reads the variable when it is first imported; our own package must come first everywhere."""
    code = "import federation.rpc.channel, os; print(os.environ['GRPC_VERBOSITY'])"
    for given, expected in ((None, "NONE"), ("DEBUG", "DEBUG")):
        environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
        environment |= {"GRPC_VERBOSITY": given} if given else {}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
