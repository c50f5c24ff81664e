# SPDX-License-Identifier: Apache-2.0
"""Every error that a user or a peer can cause, by whose fault it is.

A message states what was expected and what was found; `advice` says what to do. Command lines print both and exit
with `exit_code`, never with a traceback. `InvalidTransition` is our own bug and stays outside the hierarchy.
"""

from collections.abc import Sequence


class FederationError(Exception):
    """Base of all expected failures.

    Attributes:
        retryable: whether the same call may succeed later without anybody changing anything.
        exit_code: what a command line exits with.
        advice: one sentence for the human who has to act, or "".
    """

    retryable: bool = False
    exit_code: int = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    def diagnostics(self) -> str:
        """The message, followed by the advice: what a command line prints instead of a traceback."""
        text = str(self)  # not the base's: a KeyError's own text is in quotation marks
        return f"{text}\n{self.advice}" if self.advice else text

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(FederationError):
    """The operator's: a file, key or option is wrong. Nothing was created."""

    exit_code = 2


class UsageError(ConfigError):
    """The operator's: a command that does not fit the state of things."""


class ProtocolError(FederationError):
    """A peer is out of step, without malice being assumed."""


class WrongRoundError(ProtocolError):
    """An update for a round that is not open to its sender."""


class StaleBaseError(ProtocolError):
    """An update computed against another base than the round's."""


class DuplicateUpdateError(ProtocolError):
    """A second, different update for the same round and site."""


class UnsupportedCodecError(ProtocolError):
    """A codec this release does not know."""


class ProtocolVersionError(ProtocolError):
    """Two releases that share no protocol version."""


class RolledBackError(ProtocolError):
    """A peer that lost what it had acknowledged: it was restored from an old backup."""


class UnknownLeafError(ProtocolError):
    """A ledger leaf of a type or version this release does not know; the fold stops there."""


class TrustError(FederationError):
    """Evidence does not hold. Never retried."""


class AccessDeniedError(TrustError):
    """A caller whose certificate does not reach what it asks for: wrong role, not in the roster."""


class RevokedError(AccessDeniedError):
    """A caller that an operator has revoked."""


class CertificateError(TrustError):
    """A certificate that is expired, of another issuer, or not what its holder may have."""


class InviteError(TrustError):
    """An invite that is used, expired, unknown or altered."""


class UnknownSiteError(TrustError):
    """A sender that the roster does not name."""


class BadSignatureError(TrustError):
    """A signature that does not verify under the roster's key."""


class DigestMismatchError(TrustError):
    """Bytes that do not have the digest they are named by."""


class LimitExceededError(TrustError):
    """Untrusted input larger, longer or denser than allowed."""


class MalformedPayloadError(TrustError):
    """Codec bytes that break a bound of their format."""


class PolicyRefusedError(TrustError):
    """The site's own policy says no."""


class RosterError(TrustError):
    """A roster document that breaks a rule: threshold, version, expiry, consortium."""


class LedgerForkError(TrustError):
    """Two histories that cannot both be true."""


class TransportError(FederationError):
    """A message could not travel now."""

    retryable = True


class PeerUnavailableError(TransportError):
    """Nobody answers at the other end."""


class OverloadedError(TransportError):
    """A peer sends more than its share, for now.

    Attributes:
        retry_after_seconds: when the same call is worth another try.
    """

    def __init__(self, message: str, *, advice: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, advice=advice)
        self.retry_after_seconds = retry_after_seconds


class LoginRefusedError(TransportError):
    """A login that only a human can make work again: an expired certificate, a refused key, an unknown host key."""

    exit_code = 77
    """EX_NOPERM of sysexits.h."""


class DeadlineExceededError(TransportError):
    """An answer did not come in time."""


class StorageError(FederationError):
    """A file system did not do its part."""


class ObjectNotFoundError(StorageError, KeyError):
    """Something named by digest or name is not there."""


class CorruptObjectError(StorageError):
    """Stored bytes are not what was written."""


class DiskFullError(StorageError):
    """Too little space is left; nothing was half-written."""


class StorageUnavailableError(StorageError):
    """A network file system does not answer now: a stale handle, a server that is away. The same call may succeed."""

    retryable = True


class DirectoryBusyError(StorageError):
    """Another process owns this directory."""


class TrainingError(FederationError):
    """Local training cannot give a usable result."""


class NonFiniteUpdateError(TrainingError):
    """NaN or infinity in parameters or pseudo-gradient."""


class NonFinitePayloadError(NonFiniteUpdateError, TrustError):
    """Codec bytes of a peer that stand for NaN or infinity."""


class LossSpikeError(TrainingError):
    """The loss left the range that the run allows."""


class NumericsMismatchError(TrainingError):
    """This machine does not reproduce the golden vectors."""


class LaunchFailedError(TrainingError):
    """A job was certainly not started. `code` says why, in one word of `site_agent.failures`."""

    def __init__(self, message: str, *, code: str = "launch-failed", advice: str = "") -> None:
        self.code = code
        super().__init__(message, advice=advice)


class JobFailedError(TrainingError):
    """A job ended without doing its work."""


class InvalidTransition(RuntimeError):  # noqa: N818 - names the event, as in dask's state machine
    """Our own bug: an event that the state machine has no row for. Carries the entity's history."""

    def __init__(self, entity: str, state: str, event: str, history: Sequence[str] = ()) -> None:
        self.history = tuple(history)
        super().__init__(f"{entity}: no transition from {state} on {event}; history: {', '.join(history) or 'none'}")
