# SPDX-License-Identifier: Apache-2.0
"""What docs/protocol.md shows, computed from the code: worked examples by name, tables by name."""

import hashlib
import textwrap
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.network_config import LimitsSection
from coordinator.rpc import courier_desk, courier_service
from coordinator.rpc.access import ACCESS
from coordinator.rpc.interceptor import Timing
from federation import dsse, merkle, notes, signing, wire
from federation import leaves as lv
from federation.certificates import (
    bootstrap_subject,
    coordinator_subject,
    operator_subject,
    server_name,
    site_subject,
    spki,
)
from federation.chunks import fragment_digest, little_endian_bytes
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.commit_pass import weighted_sum
from federation.error_feedback import encode_with_feedback
from federation.leaves import PartyKind, Reason
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.layout import message_name
from federation.messages import Acknowledgement, Header, Message, MessageBody, RoundDeclined, Update
from federation.outer_optimizer import apply_blob, outer_step
from federation.pseudo_gradient import merge, pseudo_gradient
from federation.roster import root_fingerprint
from federation.roster_document import KeyRequest, KeyUse, RequestedKey, RequestKind, RootKey, Roster
from federation.rpc.channel import MAX_MESSAGE_BYTES
from federation.rpc.errors import all_errors, status_code
from federation.rpc.pieces import MAX_PIECES_PER_MESSAGE
from federation.v1 import leaves_pb2, message_pb2
from federation.weights import round_weights

# --- the example's world ----------------------------------------------------------------------------------------------

CONSORTIUM, SITE, RUN = "example", "alpha", "first"


def key(holder: str) -> Ed25519PrivateKey:
    """The example's keys: their seed is SHA-256 of their holder's name. They protect nothing."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"example/{holder}".encode()).digest())


def public(holder: str) -> bytes:
    return signing.public_bytes(key(holder))


UPDATE, WITNESS, LEDGER, ROOT = (key(name) for name in ("alpha/update", "alpha/witness", "ledger", "root"))


def header(sequence: int, *, blobs: tuple[str, ...] = ()) -> Header:
    return Header(
        consortium=CONSORTIUM,
        sender=SITE,
        recipient="coordinator",
        sequence=sequence,
        received_through=3,
        epoch=1,
        roster_version=1,
        blobs=blobs,
    )


def message(sequence: int, body: MessageBody) -> bytes:
    return wire.message_to_bytes(Message(header=header(sequence), body=body))


DECLINED = message(7, RoundDeclined(run=RUN, round=2, reason=Reason.JOB_FAILED, sentence="two jobs failed"))
ENVELOPE = dsse.sign_envelope(dsse.MESSAGE_TYPE, DECLINED, UPDATE)
ACKNOWLEDGEMENT = dsse.sign_envelope(dsse.MESSAGE_TYPE, message(0, Acknowledgement()), UPDATE)

# --- numbers of one round ---------------------------------------------------------------------------------------------


def fp32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def raw(vector: np.ndarray) -> bytes:
    return bytes(little_endian_bytes(vector))


THETA = fp32(1.0, -2.0, 0.5, 0.1)
LOCALS = {"alpha": fp32(0.9, -2.25, 0.5, 0.3), "beta": fp32(1.1, -2.0, 0.25, 0.1)}
TOKENS = (("alpha", 300), ("beta", 100))
LR, MU, ALPHA = 0.7, 0.9, 0.5
UP, DOWN = get_codec("bf16"), get_codec("int8")

DELTAS = {site: pseudo_gradient(THETA, local) for site, local in LOCALS.items()}
PAYLOADS = {site: encode_vector(UP, delta) for site, delta in DELTAS.items()}
WEIGHTS = round_weights(TOKENS, "tokens")
G = weighted_sum([(w, decode_vector(UP, 4, PAYLOADS[s])) for (s, _), w in zip(TOKENS, WEIGHTS, strict=True)], 4)
M, U = outer_step(np.zeros(4, np.float32), np.zeros(4, np.float32), G, LR, MU)
BLOB = encode_vector(DOWN, U)
THETA_1, R = apply_blob(THETA, U, decode_vector(DOWN, 4, BLOB))
MERGED = merge(THETA_1, LOCALS["alpha"], ALPHA)

DESCRIPTOR = wire.update_to_bytes(
    Update(
        consortium=CONSORTIUM,
        run=RUN,
        manifest_digest="ab" * 32,
        round=0,
        fragment=0,
        base_digest=fragment_digest(THETA),
        site=SITE,
        allocation="a1",
        codec=UP.name,
        weight_tokens=300,
        new_tokens=300,
        num_steps=10,
        payload_digest=merkle.blob_digest(PAYLOADS["alpha"]),
        payload_bytes=len(PAYLOADS["alpha"]),
    )
)
SIGNED_UPDATE = dsse.sign_envelope(dsse.UPDATE_TYPE, DESCRIPTOR, UPDATE)

# --- ledger -----------------------------------------------------------------------------------------------------------

LEAVES = [
    wire.leaf_to_bytes(lv.Leaf(at_us=1_700_000_000_000_000, body=body))
    for body in (
        lv.RosterInstalledV1(version=1, digest="cd" * 32, sites=("alpha", "beta")),
        lv.SiteDrainedV1(site="beta", operator="olga", command="c1"),
        lv.SiteResumedV1(site="beta", operator="olga", command="c2"),
    )
]
TREE = merkle.Tree([merkle.leaf_hash(leaf) for leaf in LEAVES])
ORIGIN = notes.default_origin(CONSORTIUM)
CHECKPOINT = notes.sign_checkpoint(notes.Checkpoint(origin=ORIGIN, size=3, root=TREE.root()), ORIGIN, LEDGER)
COSIGNED = notes.cosign(CHECKPOINT, notes.witness_name(CONSORTIUM, SITE), WITNESS, 1_700_000_060)

# --- roster -----------------------------------------------------------------------------------------------------------

ROSTER = Roster(
    consortium=CONSORTIUM,
    version=1,
    issued_at_us=0,
    expires_at_us=1,
    threshold=1,
    root_keys=(RootKey(public=public("root")),),
)
TLS_SCALAR = int.from_bytes(hashlib.sha256(b"example/alpha/tls").digest(), "big")
TLS_PUBLIC = spki(ec.derive_private_key(TLS_SCALAR, ec.SECP256R1()))
REQUEST = wire.request_to_bytes(
    KeyRequest(
        kind=RequestKind.SITE,
        id=SITE,
        keys=(
            RequestedKey(use=KeyUse.ENVELOPES, public=public("alpha/update")),
            RequestedKey(use=KeyUse.TLS, public=TLS_PUBLIC),
            RequestedKey(use=KeyUse.WITNESS, public=public("alpha/witness")),
        ),
    )
)
SIGNED_REQUEST = dsse.add_signature(dsse.sign_envelope(dsse.REQUEST_TYPE, REQUEST, UPDATE), WITNESS)


def keys_text() -> str:
    lines = []
    for holder in ("root", "ledger", "coordinator", "alpha/update", "alpha/witness"):
        seed = hashlib.sha256(f"example/{holder}".encode()).hexdigest()
        lines += [f"{holder}", f"  seed    {seed}", f"  public  {public(holder).hex()}"]
        lines.append(f"  key id  {signing.key_id(public(holder))}")
    lines += ["alpha/tls (P-256; the seed is the secret scalar)", f"  seed    {TLS_SCALAR:064x}"]
    lines += [f"  spki    {part}" for part in textwrap.wrap(TLS_PUBLIC.hex(), 64)]
    return "\n".join(lines)


def digests_text() -> str:
    rows = {
        "blob of no bytes": merkle.blob_digest(b""),
        "blob of 5 bytes, hello": merkle.blob_digest(b"hello"),
        "blob of 1048577 zero bytes": merkle.blob_digest(bytes(1024 * 1024 + 1)),
        "fragment 1.0, -2.0, 0.5, 0.1": fragment_digest(THETA),
        "fragment of 1048577 zeros": fragment_digest(np.zeros(2**20 + 1, np.float32)),
        "SHA-256 of hello (no tree)": hashlib.sha256(b"hello").hexdigest(),
    }
    return "\n".join(f"{name:<29} {value}" for name, value in rows.items())


def ledger_text() -> str:
    lines = [f"leaf {index}  {merkle.leaf_hash(leaf).hex()}" for index, leaf in enumerate(LEAVES)]
    return "\n".join([*lines, f"root    {TREE.root().hex()}"])


def feedback_text() -> str:
    payload, e_new = encode_with_feedback(get_codec("int4"), DELTAS["alpha"], fp32(0.01, 0.0, -0.02, 0.0), 0.95)
    return f"payload digest  {merkle.blob_digest(payload)}\ne_new           {raw(e_new).hex()}"


def round_text() -> str:
    rows: list[tuple[str, str]] = [("theta", raw(THETA).hex()), ("theta digest", fragment_digest(THETA))]
    for (site, _), weight in zip(TOKENS, WEIGHTS, strict=True):
        rows += [(f"local {site}", raw(LOCALS[site]).hex()), (f"delta {site}", raw(DELTAS[site]).hex())]
        rows += [(f"payload {site}", PAYLOADS[site].hex()), (f"weight {site}", raw(fp32(weight)).hex())]
    rows += [("g", raw(G).hex()), ("m", raw(M).hex()), ("u", raw(U).hex())]
    rows += [("blob digest", merkle.blob_digest(BLOB)), ("decode(blob)", raw(decode_vector(DOWN, 4, BLOB)).hex())]
    rows += [("new theta", raw(THETA_1).hex()), ("new theta digest", fragment_digest(THETA_1)), ("r", raw(R).hex())]
    rows.append(("merge at alpha", raw(MERGED).hex()))
    return "\n".join(f"{name:<17} {value}" for name, value in rows)


def uris_text() -> str:
    rows = {
        "site": site_subject(CONSORTIUM, SITE).uri,
        "operator": operator_subject(CONSORTIUM, "olga", ("operator", "auditor")).uri,
        "bootstrap": bootstrap_subject(CONSORTIUM, PartyKind.SITE, SITE).uri,
        "coordinator": coordinator_subject(CONSORTIUM).uri,
        "server's name": server_name(CONSORTIUM),
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


EXAMPLES: Mapping[str, str] = {
    "keys": keys_text(),
    "digests": digests_text(),
    "pae": dsse.pae(dsse.UPDATE_TYPE, b"hello").hex(),
    "message": DECLINED.hex(),
    "envelope": ENVELOPE.hex(),
    "message-name": message_name(7, ENVELOPE),
    "acknowledgement": ACKNOWLEDGEMENT.hex(),
    "request": SIGNED_REQUEST.hex(),
    "fingerprint": root_fingerprint(ROSTER),
    "uris": uris_text(),
    "leaves": "\n".join(leaf.hex() for leaf in LEAVES),
    "tree": ledger_text(),
    "checkpoint": CHECKPOINT.decode().rstrip("\n"),
    "cosigned": COSIGNED.decode().rstrip("\n"),
    "payload-fp32": encode_vector(get_codec("fp32"), THETA).hex(),
    "payload-bf16": encode_vector(get_codec("bf16"), THETA).hex(),
    "payload-int8": encode_vector(get_codec("int8"), THETA).hex(),
    "payload-int4": encode_vector(get_codec("int4"), THETA).hex(),
    "payload-sparse-down": encode_vector(get_codec("sparse-down"), THETA).hex(),
    "payload-sparse": encode_vector(get_codec("sparse"), THETA).hex(),
    "round": round_text(),
    "feedback": feedback_text(),
    "update": DESCRIPTOR.hex(),
    "signed-update": SIGNED_UPDATE.hex(),
    "update-digest": merkle.blob_digest(SIGNED_UPDATE),
}

# --- tables -----------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def types_table() -> str:
    rows = {
        "message (header and body)": (dsse.MESSAGE_TYPE, "open"),
        "update's descriptor": (dsse.UPDATE_TYPE, "strict"),
        "evaluation": (dsse.EVALUATION_TYPE, "strict"),
        "task evaluation": (dsse.TASKS_TYPE, "strict"),
        "roster": (dsse.ROSTER_TYPE, "open"),
        "key request": (dsse.REQUEST_TYPE, "strict"),
    }
    return _table(("document", "payload type", "reader"), ((d, f"`{t}`", r) for d, (t, r) in rows.items()))


def limits_table() -> str:
    return _table(("limit", "value"), ((f"`{n}`", f"{v:,}") for n, v in vars(DEFAULT_LIMITS).items()))


def access_table() -> str:
    rows = ((f"`{method[1:]}`", ", ".join(sorted(roles))) for method, roles in ACCESS.items())
    return _table(("call", "certificate's role"), rows)


def reasons_table() -> str:
    found = leaves_pb2.Reason.DESCRIPTOR.values
    return _table(("number", "code"), ((v.number, f"`{_word(v.name)}`") for v in found if v.number))


def _word(name: str) -> str:
    return name.removeprefix("REASON_").lower().replace("_", "-")


def bodies_table() -> str:
    found = message_pb2.Message.DESCRIPTOR.oneofs_by_name["body"].fields
    rows = ((f.number, f"`{f.message_type.name}`") for f in found if f.message_type is not None)
    return _table(("field", "body"), rows)


def codecs_table() -> str:
    found = (get_codec(name) for name in codec_names())
    rows = ((f"`{c.name}`", c.block_elements, c.bytes_per_block) for c in found)
    return _table(("codec", "elements of a block", "bytes of a block"), rows)


def errors_table() -> str:
    rows = sorted((status_code(e).name, e.__name__) for e in all_errors() if e.__module__ == "federation.errors")
    by_status: dict[str, list[str]] = {}
    for status, name in rows:
        by_status.setdefault(status, []).append(f"`{name}`")
    return _table(("status", "`federation-error`"), ((s, ", ".join(names)) for s, names in by_status.items()))


def courier_limits_table() -> str:
    calls = ("Pull", "PutBlob", "GetBlob", "Push")
    seconds = ", ".join(f"{Timing().seconds(f'/federation.v1.Courier/{call}'):g} s {call}" for call in calls)
    rows: list[tuple[str, object]] = [
        ("one gRPC message", f"{MAX_MESSAGE_BYTES:,} bytes"),
        ("messages in one `Push` or `Pull`", f"{courier_desk.MAX_MESSAGES:,}"),
        ("messages in one `PullReply`, together", f"{courier_desk.MAX_REPLY_BYTES:,} bytes"),
        ("`wait_ms`", f"{1000 * courier_service.MAX_WAIT_SECONDS:,.0f}"),
        ("blobs offered", f"{courier_desk.MAX_OFFERED_BLOBS:,}"),
        ("ranges sent in `have`", f"{courier_desk.MAX_RANGES:,}"),
        ("ranges in `StatBlobReply`", f"{courier_desk.MAX_RANGES_IN_REPLY:,}"),
        ("pieces in one `GetBlob`", courier_desk.MAX_PIECES),
        ("pieces in one message", MAX_PIECES_PER_MESSAGE),
        ("until the next message of a stream", f"{Timing().message_seconds:g} s"),
        ("until a message was taken by its receiver", f"{Timing().write_seconds:g} s"),
        ("a whole call", f"{seconds} and the others"),
    ]
    defaults = ((f"`{name}`, default", f"{value:,.0f}") for name, value in vars(LimitsSection()).items())
    return _table(("limit", "value"), (*rows, *defaults))


TABLES: Mapping[str, Callable[[], str]] = {
    "courier-limits": courier_limits_table,
    "access": access_table,
    "payload-types": types_table,
    "limits": limits_table,
    "reasons": reasons_table,
    "bodies": bodies_table,
    "codecs": codecs_table,
    "errors": errors_table,
}
