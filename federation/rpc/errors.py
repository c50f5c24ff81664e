# SPDX-License-Identifier: Apache-2.0
"""Errors as gRPC statuses, and back.

A status says what a peer that knows nothing of this release may conclude (wait, give up); trailing metadata carries the
class, the advice and the time to wait, so that both ends see the same error. `InvalidTransition` and everything else
outside the hierarchy is our own bug and never travels: the server answers INTERNAL without details.
"""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote

import grpc

from federation import errors
from federation.errors import (
    DeadlineExceededError,
    FederationError,
    OverloadedError,
    PeerUnavailableError,
    ProtocolError,
)

CLASS_KEY: Final = "federation-error"
ADVICE_KEY: Final = "federation-advice"
RETRY_AFTER_KEY: Final = "federation-retry-after-ms"

MAX_TEXT_CHARACTERS: Final = 1000
"""Of a sentence or an advice on the wire: proxies cut headers at 8 KiB, and a peer must not fill our screen."""

MAX_RETRY_AFTER_SECONDS: Final = 3600.0

_CODES: Final[Mapping[type[FederationError], grpc.StatusCode]] = {
    errors.ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProtocolError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProtocolVersionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RolledBackError: grpc.StatusCode.DATA_LOSS,
    errors.TrustError: grpc.StatusCode.PERMISSION_DENIED,
    errors.CertificateError: grpc.StatusCode.UNAUTHENTICATED,
    errors.DigestMismatchError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitExceededError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MalformedPayloadError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LedgerForkError: grpc.StatusCode.DATA_LOSS,
    errors.TransportError: grpc.StatusCode.UNAVAILABLE,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.StorageError: grpc.StatusCode.INTERNAL,
    errors.ObjectNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.DiskFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DirectoryBusyError: grpc.StatusCode.ABORTED,
    errors.TrainingError: grpc.StatusCode.INTERNAL,
    errors.NonFinitePayloadError: grpc.StatusCode.INVALID_ARGUMENT,
}
"""A class that is not listed has the status of its nearest base; `FederationError` itself is UNKNOWN."""

_ADVICE_WITHOUT_ANSWER: Final = (
    "Causes to look at: the coordinator is down or moved; a firewall or proxy lies between; the port speaks no TLS; "
    "it does not know this certificate's issuer. `site-agent doctor` tells them apart."
)


def all_errors() -> Iterator[type[FederationError]]:
    """Every class of the hierarchy once, as it is loaded now."""
    waiting: list[type[FederationError]] = [FederationError]
    seen: set[type[FederationError]] = set()
    while waiting:
        found = waiting.pop()
        if found not in seen:
            seen.add(found)
            yield found
            waiting.extend(found.__subclasses__())


def status_code(error: type[FederationError]) -> grpc.StatusCode:
    """The status of an error class: its own row of the table, or that of the nearest base."""
    return next((_CODES[base] for base in error.__mro__ if base in _CODES), grpc.StatusCode.UNKNOWN)


def details(error: FederationError) -> str:
    """The status' text: the error's sentence, bounded."""
    return str(error)[:MAX_TEXT_CHARACTERS]


def trailing_metadata(error: FederationError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of a status: class name, advice (percent-encoded UTF-8), time to wait."""
    pairs = [(CLASS_KEY, type(error).__name__)]
    if error.advice:
        pairs.append((ADVICE_KEY, quote(error.advice[:MAX_TEXT_CHARACTERS], safe=" /:,;()'`\"=?!<>+*&@#[]{}|")))
    if isinstance(error, OverloadedError):
        pairs.append((RETRY_AFTER_KEY, str(round(error.retry_after_seconds * 1000))))
    return tuple(pairs)


def error_from(failed: grpc.aio.AioRpcError) -> FederationError:
    """The error that a failed call stands for: the peer's own one where it named it, else one that fits the status."""
    metadata = {str(key): value for key, value in failed.trailing_metadata() or ()}
    sentence = (failed.details() or failed.code().name)[:MAX_TEXT_CHARACTERS]
    named = _named(_text(metadata.get(CLASS_KEY)))
    if named is None:
        return _without_name(failed.code(), sentence)
    advice = unquote(_text(metadata.get(ADVICE_KEY)))[:MAX_TEXT_CHARACTERS]
    if issubclass(named, OverloadedError):
        return named(sentence, advice=advice, retry_after_seconds=_seconds(_text(metadata.get(RETRY_AFTER_KEY))))
    return named(sentence, advice=advice)


def _named(name: str) -> type[FederationError] | None:
    """One of our own classes, by the name that a peer gave."""
    ours = (found for found in all_errors() if found.__module__ == errors.__name__)
    return next((found for found in ours if found.__name__ == name), None)


def _text(value: str | bytes | None) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value or ""


def _seconds(milliseconds: str) -> float:
    return min(int(milliseconds) / 1000, MAX_RETRY_AFTER_SECONDS) if milliseconds.isdecimal() else 1.0


def _without_name(code: grpc.StatusCode, sentence: str) -> FederationError:
    """Statuses that gRPC itself makes, or a peer of another make."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return PeerUnavailableError(f"the peer gives no answer: {sentence}", advice=_ADVICE_WITHOUT_ANSWER)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(f"no answer came in time: {sentence}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadedError(f"the peer takes no more for now: {sentence}")
    if code is grpc.StatusCode.CANCELLED:
        return PeerUnavailableError(f"the call was cut off: {sentence}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return errors.AccessDeniedError(f"the peer refuses: {sentence}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.ProtocolVersionError(
            f"the peer does not know this call: {sentence}", advice="Something else listens there, or an older release."
        )
    return ProtocolError(f"the peer failed with {code.name}: {sentence}")
