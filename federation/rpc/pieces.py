# SPDX-License-Identifier: Apache-2.0
"""Pieces of blobs as messages, without the copies that protobuf makes of their bytes.

What goes over the wire is what courier.proto says, byte for byte. Written, the data are joined to the other fields
once; read, they stay where gRPC has put them. A message of another form than our own, such as one with its fields in
another order, is left to protobuf.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import grpc

from federation.v1 import courier_pb2 as pb
from federation.v1.courier_pb2_grpc import CourierStub

MAX_PIECES_PER_MESSAGE: Final = 2
"""What a message costs beside its bytes is little then; what both ends hold of it counts."""

PUT_BLOB: Final = "/federation.v1.Courier/PutBlob"
GET_BLOB: Final = "/federation.v1.Courier/GetBlob"

Data: TypeAlias = bytes | memoryview
M = TypeVar("M", pb.PutBlobRequest, pb.BlobPiece)

_VARINT, _LENGTH_DELIMITED = 0, 2
_PUT_DATA: Final = pb.PutBlobRequest.DATA_FIELD_NUMBER
_GET_DATA: Final = pb.BlobPiece.DATA_FIELD_NUMBER


class BroughtPiece(NamedTuple):
    """One message of PutBlob; `data` of `head` is empty."""

    head: pb.PutBlobRequest
    data: Data


class FetchedPiece(NamedTuple):
    """One message of GetBlob's answer; `data` of `head` is empty."""

    head: pb.BlobPiece
    data: Data


def put_request(digest: bytes, num_bytes: int, piece: int, data: bytes) -> bytes:
    """A `PutBlobRequest` as it goes over the wire."""
    return _joined(pb.PutBlobRequest(digest=digest, num_bytes=num_bytes, piece=piece), _PUT_DATA, data)


def blob_piece(piece: int, data: bytes) -> bytes:
    """A `BlobPiece` as it goes over the wire."""
    return _joined(pb.BlobPiece(piece=piece), _GET_DATA, data)


def read_put_request(raw: bytes) -> BroughtPiece:
    """Takes a `PutBlobRequest` apart. Raises google.protobuf.message.DecodeError."""
    return BroughtPiece(*_parted(raw, pb.PutBlobRequest, _PUT_DATA))


def read_blob_piece(raw: bytes) -> FetchedPiece:
    """Takes a `BlobPiece` apart. Raises google.protobuf.message.DecodeError."""
    return FetchedPiece(*_parted(raw, pb.BlobPiece, _GET_DATA))


def courier_stub(channel: grpc.aio.Channel) -> CourierStub:
    """A stub whose PutBlob sends what `put_request` makes, and whose GetBlob receives `FetchedPiece`."""
    stub = CourierStub(channel)  # type: ignore[no-untyped-call]
    stub.PutBlob = channel.stream_unary(PUT_BLOB, None, pb.StatBlobReply.FromString)
    stub.GetBlob = channel.unary_stream(GET_BLOB, pb.GetBlobRequest.SerializeToString, read_blob_piece)
    return stub


def in_own_form(method: str, handler: Any) -> Any:
    """A server's handler as it is; that of PutBlob receives `BroughtPiece`, GetBlob's sends what `blob_piece` makes."""
    if handler is not None and method == PUT_BLOB:
        return handler._replace(request_deserializer=read_put_request)
    if handler is not None and method == GET_BLOB:
        return handler._replace(response_serializer=None)
    return handler


def _joined(head: pb.PutBlobRequest | pb.BlobPiece, field: int, data: bytes) -> bytes:
    """Field `field` is the message's last one, so that this is protobuf's own order."""
    if not data:
        return head.SerializeToString()
    tag = bytes([field << 3 | _LENGTH_DELIMITED])
    return b"".join((head.SerializeToString(), tag, _varint(len(data)), data))


def _parted(raw: bytes, kind: Callable[[], M], field: int) -> tuple[M, Data]:
    start = _start_of_last_field(raw, field)
    head = kind()
    head.ParseFromString(raw[: start[0]] if start else raw)
    if start:
        return head, memoryview(raw)[start[1] :]
    data = head.data
    head.ClearField("data")
    return head, data


def _start_of_last_field(raw: bytes, field: int) -> tuple[int, int] | None:
    """Where tag and data of a field begin that fills the message up to its end; None if that is not our own form."""
    at = 0
    while at < len(raw) and raw[at] < 0x80:
        number, kind, begin = raw[at] >> 3, raw[at] & 7, at
        value, at = _read_varint(raw, at + 1)
        if kind not in (_VARINT, _LENGTH_DELIMITED) or value < 0:
            return None
        if number == field:
            return (begin, at) if kind == _LENGTH_DELIMITED and at + value == len(raw) else None
        if kind == _LENGTH_DELIMITED:
            at += value
    return None


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number there and where it ends; -1 if there is none of at most 64 bits."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(raw):
            return -1, at
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    return -1, at
