# SPDX-License-Identifier: Apache-2.0
"""What may leave a site: every text and byte field of every message, with its longest length and its characters.

The list is complete or nothing goes out: a field that is not on it is refused, also one that a later release adds and
nobody has decided about. A refusal names the field, never what was in it. Blobs are no concern of this module: a
payload's bytes are the codec's.

The checks, in this order, for each field that is text or bytes: 1 it is on the list 2 it is not longer than the list
says 3 it has the form that the list says; a signed document inside is opened and checked as the message is.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Final

from federation import dsse, wire
from federation.egress_words import is_our_sentence, metric_line
from federation.errors import FederationError, TrustError
from federation.ids import SLUG_PATTERN
from federation.limits import DEFAULT_LIMITS
from federation.messages import Acknowledgement, MessageBody
from federation.notes import MAX_NOTE_BYTES
from federation.task_scores import LANGUAGE_PATTERN, METRIC_PATTERN, TASK_PATTERN, VERSION_PATTERN

_DIGEST: Final = r"[0-9a-f]{64}"


class EgressRefusedError(TrustError):
    """Something that must not leave this site was about to. Nothing was sent."""


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What one field may hold.

    Attributes:
        max_length: characters, or bytes.
        words: what it holds, for people.
        holds: whether a value of allowed length has the form.
    """

    max_length: int
    words: str
    holds: Callable[[str | bytes], bool]


def _text(pattern: str, max_length: int, words: str) -> Allowed:
    compiled = re.compile(pattern, re.ASCII)

    def holds(value: str | bytes) -> bool:
        return isinstance(value, str) and compiled.fullmatch(value) is not None

    return Allowed(max_length=max_length, words=words, holds=holds)


def _bytes(length: int, words: str) -> Allowed:
    """Exactly so many bytes, or none."""
    return Allowed(max_length=length, words=words, holds=lambda value: len(value) in (0, length))


def _is_note(value: str | bytes) -> bool:
    """A checkpoint in C2SP's format: origin, size, root and signature lines, nothing else."""
    try:
        return isinstance(value, bytes) and _NOTE.fullmatch(value.decode()) is not None
    except UnicodeDecodeError:
        return False


def _signed(payload_type: str, read: Callable[[bytes], object]) -> Callable[[str | bytes], bool]:
    def holds(value: str | bytes) -> bool:
        try:
            found = read(dsse.peek_payload(value, payload_type)) if isinstance(value, bytes) else None
        except FederationError:
            return False
        return found is not None and not list(problems(found))

    return holds


_is_evaluation: Final = _signed(dsse.EVALUATION_TYPE, wire.evaluation_from_bytes)
_are_tasks: Final = _signed(dsse.TASKS_TYPE, wire.tasks_from_bytes)

_NAME: Final = r"[^\s+\x00-\x1f]{1,200}"
_NOTE: Final = re.compile(
    rf"{_NAME}\n[0-9]{{1,19}}\n[A-Za-z0-9+/]{{43}}=\n\n(— {_NAME} [A-Za-z0-9+/]{{1,200}}={{0,2}}\n)+"
)

_ID: Final = _text(SLUG_PATTERN, 40, "an id")
_DIGEST_OR_NONE: Final = _text(rf"({_DIGEST})?", 64, "a digest")
_SENTENCE: Final = Allowed(
    max_length=DEFAULT_LIMITS.max_text_chars,
    words="a fixed sentence with numbers",
    holds=lambda value: isinstance(value, str) and is_our_sentence(value),
)
_METRICS: Final = Allowed(
    max_length=500,
    words="known figures",
    holds=lambda value: isinstance(value, str) and value != "" and metric_line(value) == value,
)
_HARDWARE: Final = "|".join(
    (
        r"\(?(NVIDIA|AMD|Intel)\)?",
        "Instinct|GeForce|Radeon|Tesla|Quadro|RTX|GTX|TITAN|Titan|Data|Center|GPU|Max|Pro|PRO|Ti|SUPER|Ada|Generation",
        "Graphics|Device|Grace|Hopper|Blackwell|Superchip|PCIe|PCIE|NVL[0-9]{0,2}|SXM[0-9]?|OAM|MIG|XCD|GCD",
        r"HBM[0-9]?[Ee]?|[A-Z]{0,3}[0-9]{1,4}[A-Za-z]?|[0-9]{1,4}GB|[0-9]g\.[0-9]{1,3}gb",
    )
)
"""Words of accelerators' names, as drivers write them; not any word, for a job could write what it likes."""

_ACCELERATOR: Final = rf"((NVIDIA|AMD|Intel)([ -]({_HARDWARE})){{0,8}})?"
_RELEASE: Final = r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}((a|b|rc)[0-9]{1,2})?"
_TORCH: Final = rf"({_RELEASE}(\.dev[0-9]{{8}})?(\+(cpu|cu[0-9]{{2,4}}|rocm[0-9](\.[0-9]{{1,2}}){{0,2}}))?)?"
_LANGUAGE: Final = _text("[a-z]{2,3}(_[A-Z][a-z]{3})?", 8, "a language code")
_SOFTWARE: Final = _text(r"(hpc-federation( [0-9][0-9A-Za-z.+]{0,40})?)?", 60, "this software's name and version")

ALLOWED: Final[Mapping[tuple[str, str], Allowed]] = {
    ("Header", "consortium"): _ID,
    ("Header", "sender"): _ID,
    ("Header", "recipient"): _ID,
    ("Header", "checkpoint_root"): _DIGEST_OR_NONE,
    ("Header", "blobs"): _DIGEST_OR_NONE,
    ("Header", "algorithm"): _text("ed25519", 7, "ed25519"),
    ("Header", "encryption"): _text("", 0, "nothing"),
    ("ManifestAnswer", "run"): _ID,
    ("ManifestAnswer", "manifest_digest"): _DIGEST_OR_NONE,
    ("ManifestAnswer", "sentence"): _SENTENCE,
    ("AllocationReport", "run"): _ID,
    ("AllocationReport", "allocation"): _ID,
    ("ParticipationReport", "run"): _ID,
    ("SnapshotWanted", "run"): _ID,
    ("SiteStatus", "blobs_wanted"): _DIGEST_OR_NONE,
    ("SiteStatus", "applied"): _text(rf"{SLUG_PATTERN}:[0-9]{{1,16}}(,[0-9]{{1,16}})*", 64 * 1024, "run and versions"),
    ("SiteStatus", "software"): _SOFTWARE,
    ("SiteFacts", "profile"): _text(rf"({SLUG_PATTERN})?", 40, "a site profile's name"),
    ("SiteFacts", "launcher"): _text("(local|slurm)?", 5, "a launcher"),
    ("SiteFacts", "courier"): _text("(grpc|spool)?", 5, "a courier"),
    ("SiteFacts", "python"): _text(rf"({_RELEASE})?", 16, "a release of Python"),
    ("SiteFacts", "torch"): _text(_TORCH, 40, "a release of torch"),
    ("SiteFacts", "accelerator"): _text(_ACCELERATOR, 40, "an accelerator's name"),
    ("SiteFacts", "architecture"): _text("(x86_64|aarch64|ppc64le|riscv64)?", 7, "a processor's architecture"),
    ("RunBudget", "run"): _ID,
    ("RunBudget", "native_unit"): _text("(([cg]pu|gcd|core|node|billing)-)?(hours|units)|", 13, "a unit of accounting"),
    ("LanguageTokens", "run"): _ID,
    ("LanguageTokens", "language"): _LANGUAGE,
    ("UpdateOffer", "signed_update"): Allowed(
        max_length=128 * 1024, words="a signed update", holds=_signed(dsse.UPDATE_TYPE, wire.update_from_bytes)
    ),
    ("Update", "consortium"): _ID,
    ("Update", "run"): _ID,
    ("Update", "manifest_digest"): _DIGEST_OR_NONE,
    ("Update", "base_digest"): _DIGEST_OR_NONE,
    ("Update", "site"): _ID,
    ("Update", "allocation"): _ID,
    ("Update", "codec"): _text("[a-z0-9-]+", 20, "a codec's name"),
    ("Update", "payload_digest"): _DIGEST_OR_NONE,
    ("RoundDeclined", "run"): _ID,
    ("RoundDeclined", "sentence"): _SENTENCE,
    ("Cosignature", "root"): _DIGEST_OR_NONE,
    ("Cosignature", "note"): Allowed(max_length=MAX_NOTE_BYTES, words="a checkpoint and signatures", holds=_is_note),
    ("EvaluationOffer", "signed_evaluation"): Allowed(
        max_length=2 * 1024 * 1024,
        words="a signed evaluation",
        holds=lambda value: _is_evaluation(value) or _are_tasks(value),
    ),
    ("Evaluation", "run"): _ID,
    ("Evaluation", "site"): _ID,
    ("LanguageScore", "language"): _LANGUAGE,
    ("TaskEvaluation", "run"): _ID,
    ("TaskEvaluation", "site"): _ID,
    ("TaskScore", "task"): _text(TASK_PATTERN, 64, "a task's name"),
    ("TaskScore", "language"): _text(LANGUAGE_PATTERN, 8, "a language code"),
    ("TaskScore", "task_version"): _text(VERSION_PATTERN, 20, "a version"),
    ("TaskScore", "metric"): _text(METRIC_PATTERN, 60, "a metric's name"),
    ("Telemetry", "run"): _ID,
    ("Telemetry", "allocation"): _ID,
    ("Telemetry", "lines"): _METRICS,
}
"""By message and field, for what a site's agent puts into its mailbox; checked before it is signed."""

_ENVELOPE_BYTES: Final = DEFAULT_LIMITS.max_envelope_bytes
_CARRIED: Final = Allowed(max_length=_ENVELOPE_BYTES, words="a message of the mailbox, checked before", holds=bool)
_RAW_DIGEST: Final = _bytes(32, "a digest")

BY_CONSTRUCTION: Final[Mapping[tuple[str, str], Allowed]] = {
    ("Envelope", "payload"): Allowed(max_length=_ENVELOPE_BYTES, words="a message or document on the list", holds=bool),
    ("Envelope", "payload_type"): _text(r"application/vnd\.hpc-federation\.[a-z]+\.v1\+protobuf", 80, "a media type"),
    ("Signature", "sig"): _bytes(64, "a signature"),
    ("Signature", "keyid"): _text(_DIGEST, 64, "a key's digest"),
    ("NegotiateRequest", "software"): _SOFTWARE,
    ("PullRequest", "acknowledgement_digest"): _RAW_DIGEST,
    ("PushRequest", "acknowledgement"): _CARRIED,
    ("CarriedMessage", "name"): _text(r"[0-9]{12}-[0-9a-f]{16}\.msg", 33, "a message's number and digest"),
    ("CarriedMessage", "data"): _CARRIED,
    ("OfferedBlob", "digest"): _RAW_DIGEST,
    ("StatBlobRequest", "digest"): _RAW_DIGEST,
    ("PutBlobRequest", "digest"): _RAW_DIGEST,
    ("PutBlobRequest", "data"): Allowed(max_length=2 * 1024**2, words="pieces of a payload", holds=bool),
    ("GetBlobRequest", "digest"): _RAW_DIGEST,
    ("EnrollRequest", "token"): _bytes(32, "an invite's token"),
    ("EnrollRequest", "request"): Allowed(max_length=64 * 1024, words="a signed key request", holds=bool),
    ("KeyRequest", "id"): _ID,
    ("KeyRequest", "ledger_origin"): _text("", 0, "nothing"),
    ("KeyRequest", "tls_issuer"): _bytes(0, "nothing"),
    ("RequestedKey", "public"): Allowed(max_length=200, words="a public key", holds=bool),
}
"""What couriers and enrolment add around those messages: each has one writer, which puts nothing of the site's into it.

It is not checked when it is sent; the list is here so that a test can tell whether somebody has decided about a field.
"""


def check_outgoing(body: MessageBody) -> None:
    """Call it before a body is handed to the site's mailbox.

    Raises:
        EgressRefusedError: with the first field that breaks the list. It does not say what the field holds.
    """
    found = next(problems(body), "")
    if found:
        raise EgressRefusedError(
            f"{type(body).__name__} is not sent: {found}",
            advice="What this field held must not leave the site; it is our own bug, or a job wrote something unusual.",
        )


def problems(value: object) -> Iterator[str]:
    """What breaks the list, one sentence per field: its name, what may be there, and how long it is."""
    if isinstance(value, Acknowledgement):
        return
    owner = type(value).__name__
    if not is_dataclass(value):
        yield f"expected a message, found a {owner}"
        return
    for field in fields(value):
        content = getattr(value, field.name)
        for item in content if isinstance(content, tuple) else (content,):
            yield from _problems_of(owner, field.name, item)


def _problems_of(owner: str, name: str, item: object) -> Iterator[str]:
    if item is None or isinstance(item, bool | int | float | Enum):
        return
    if not isinstance(item, str | bytes):
        yield from problems(item)
        return
    allowed = ALLOWED.get((owner, name))
    if allowed is None:  # 1
        yield f"{owner}.{name}: expected a field on the list of what may leave a site, found one that is not"
    elif len(item) > allowed.max_length:  # 2
        yield f"{owner}.{name}: expected {allowed.words}, at most {allowed.max_length} long, found {len(item)}"
    elif not allowed.holds(item):  # 3
        yield f"{owner}.{name}: expected {allowed.words}, found something else, {len(item)} long"


def or_nothing(owner: str, name: str, text: str) -> str:
    """`text` if the list lets it out in this field, else "": for facts that may be left out."""
    return "" if next(_problems_of(owner, name, text), None) else text
