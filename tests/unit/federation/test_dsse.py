# SPDX-License-Identifier: Apache-2.0
import pytest

from federation import dsse, signing
from federation.errors import BadSignatureError, LimitExceededError, ProtocolError
from federation.limits import DEFAULT_LIMITS
from federation.wire.envelope import MAX_SIGNATURES, Envelope, Signature, envelope_from_bytes, envelope_to_bytes

KEYS = [signing.generate_key() for _ in range(3)]
PUBLICS = [signing.public_bytes(key) for key in KEYS]
BY_ID = {signing.key_id(public): public for public in PUBLICS}


def _signed(*keys: int, payload: bytes = b"payload") -> bytes:
    envelope = dsse.sign_envelope(dsse.ROSTER_TYPE, payload, KEYS[keys[0]])
    for key in keys[1:]:
        envelope = dsse.add_signature(envelope, KEYS[key])
    return envelope


def test_pae_is_that_of_the_dsse_specification() -> None:
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_not_characters() -> None:
    assert dsse.pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_what_one_key_signed_it_opens() -> None:
    assert dsse.open_envelope(_signed(0), dsse.ROSTER_TYPE, PUBLICS[0]) == b"payload"


def test_another_type_of_document_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected type"):
        dsse.open_envelope(_signed(0), dsse.UPDATE_TYPE, PUBLICS[0])


def test_the_type_is_signed() -> None:
    opened = envelope_from_bytes(_signed(0))
    moved = envelope_to_bytes(
        Envelope(payload=opened.payload, payload_type=dsse.UPDATE_TYPE, signatures=opened.signatures)
    )
    with pytest.raises(BadSignatureError):
        dsse.open_envelope(moved, dsse.UPDATE_TYPE, PUBLICS[0])


def test_another_key_or_none_is_refused() -> None:
    nobody = envelope_to_bytes(Envelope(payload=b"payload", payload_type=dsse.ROSTER_TYPE, signatures=()))
    for envelope in (_signed(1), nobody):
        with pytest.raises(BadSignatureError, match="expected one signature"):
            dsse.open_envelope(envelope, dsse.ROSTER_TYPE, PUBLICS[0])


def test_a_second_signature_would_be_a_second_digest_of_the_same_document() -> None:
    with pytest.raises(BadSignatureError, match="expected one signature"):
        dsse.open_envelope(_signed(0, 1), dsse.ROSTER_TYPE, PUBLICS[0])


def test_an_unknown_field_in_the_outer_bytes_is_refused() -> None:
    with pytest.raises(ProtocolError, match="canonical"):
        dsse.open_envelope(_signed(0) + b"\x78\x01", dsse.ROSTER_TYPE, PUBLICS[0])


def test_reordered_fields_are_refused() -> None:
    payload, rest = envelope_to_bytes(Envelope(payload=b"p", payload_type="", signatures=())), _signed(0, payload=b"")
    with pytest.raises(ProtocolError, match="canonical"):
        envelope_from_bytes(rest + payload)


@pytest.mark.parametrize("junk", [b"\xff", b"junk", b"\x0a\xff\xff\xff\xff\x0f"])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        dsse.peek_payload(junk)


def test_limits_come_before_parsing() -> None:
    with pytest.raises(LimitExceededError, match="bytes"):
        dsse.peek_payload(b"\xff" * (DEFAULT_LIMITS.max_envelope_bytes + 1))
    many = tuple(Signature(keyid=str(number), sig=b"s") for number in range(MAX_SIGNATURES + 1))
    with pytest.raises(LimitExceededError, match="signatures"):
        dsse.peek_payload(envelope_to_bytes(Envelope(payload=b"", payload_type="", signatures=many)))


def test_the_order_of_signing_leaves_no_trace() -> None:
    assert _signed(0, 1, 2) == _signed(2, 0, 1)
    assert _signed(0, 1, 0) == _signed(0, 1)


@pytest.mark.parametrize(("keys", "threshold", "good"), [((0, 1), 2, True), ((0,), 2, False), ((0, 1, 2), 3, True)])
def test_threshold(keys: tuple[int, ...], threshold: int, good: bool) -> None:
    envelope = _signed(*keys)
    if good:
        assert dsse.open_threshold(envelope, dsse.ROSTER_TYPE, BY_ID, threshold) == b"payload"
    else:
        with pytest.raises(BadSignatureError, match="found 1 good"):
            dsse.open_threshold(envelope, dsse.ROSTER_TYPE, BY_ID, threshold)


def test_one_key_repeated_counts_once() -> None:
    opened = envelope_from_bytes(_signed(0))
    twice = envelope_to_bytes(
        Envelope(payload=opened.payload, payload_type=opened.payload_type, signatures=opened.signatures * 2)
    )
    with pytest.raises(BadSignatureError):
        dsse.open_threshold(twice, dsse.ROSTER_TYPE, BY_ID, 2)


def test_a_signature_under_anothers_key_id_counts_for_nobody() -> None:
    opened = envelope_from_bytes(_signed(0))
    ids = [signing.key_id(public) for public in PUBLICS]
    forged = tuple(Signature(keyid=keyid, sig=opened.signatures[0].sig) for keyid in ids)
    envelope = envelope_to_bytes(Envelope(payload=opened.payload, payload_type=opened.payload_type, signatures=forged))
    assert dsse.signers(envelope, BY_ID) == (ids[0],)


def test_strangers_signatures_neither_help_nor_harm() -> None:
    known = {signing.key_id(PUBLICS[0]): PUBLICS[0]}
    assert dsse.open_threshold(_signed(0, 1, 2), dsse.ROSTER_TYPE, known, 1) == b"payload"
    with pytest.raises(BadSignatureError):
        dsse.open_threshold(_signed(1, 2), dsse.ROSTER_TYPE, known, 1)


def test_callers_mistakes_are_no_trust_errors() -> None:
    with pytest.raises(ValueError, match="threshold"):
        dsse.open_threshold(_signed(0), dsse.ROSTER_TYPE, BY_ID, 0)
    with pytest.raises(ValueError, match="key id"):
        dsse.open_threshold(_signed(0), dsse.ROSTER_TYPE, {"alias": PUBLICS[0]}, 1)


def test_peeking_needs_no_key_and_checks_the_type_if_asked() -> None:
    assert dsse.peek_payload(_signed(0)) == b"payload"
    assert dsse.peek_type(_signed(0)) == dsse.ROSTER_TYPE
    with pytest.raises(ProtocolError):
        dsse.peek_payload(_signed(0), dsse.UPDATE_TYPE)
