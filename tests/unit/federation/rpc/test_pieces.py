# SPDX-License-Identifier: Apache-2.0
"""Messages that carry pieces: the bytes are protobuf's, and what protobuf reads is read the same."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from federation.rpc.pieces import blob_piece, put_request, read_blob_piece, read_put_request
from federation.v1 import courier_pb2 as pb

U64 = st.integers(0, 2**64 - 1)
DATA = st.binary(max_size=300)


def put(**values: Any) -> pb.PutBlobRequest:
    return pb.PutBlobRequest(**values)


@given(digest=st.binary(max_size=40), num_bytes=U64, piece=U64, data=DATA)
def test_a_put_is_the_one_that_protobuf_writes(digest: bytes, num_bytes: int, piece: int, data: bytes) -> None:
    raw = put_request(digest, num_bytes, piece, data)
    assert raw == put(digest=digest, num_bytes=num_bytes, piece=piece, data=data).SerializeToString()
    head, found = read_put_request(raw)
    assert (head, bytes(found)) == (put(digest=digest, num_bytes=num_bytes, piece=piece), data)


@given(piece=U64, data=DATA)
def test_a_fetched_piece_is_the_one_that_protobuf_writes(piece: int, data: bytes) -> None:
    raw = blob_piece(piece, data)
    assert raw == pb.BlobPiece(piece=piece, data=data).SerializeToString()
    head, found = read_blob_piece(raw)
    assert (head, bytes(found)) == (pb.BlobPiece(piece=piece), data)


def test_the_data_of_a_large_piece_are_not_copied() -> None:
    data = bytes(1024 * 1024)
    raw = put_request(bytes(32), 2 * len(data), 1, data)
    found = read_put_request(raw).data
    assert isinstance(found, memoryview)
    assert found.obj is raw
    assert found.nbytes == len(data)


@given(first=DATA, second=DATA, piece=U64)
def test_other_orders_and_repetitions_mean_what_they_mean_to_protobuf(first: bytes, second: bytes, piece: int) -> None:
    parts = [
        pb.BlobPiece(data=first).SerializeToString(),
        pb.BlobPiece(piece=piece).SerializeToString(),
        pb.BlobPiece(data=second).SerializeToString(),
    ]
    for raw in (b"".join(parts), b"".join(reversed(parts)), parts[0] + parts[1]):
        expected = pb.BlobPiece.FromString(raw)
        head, data = read_blob_piece(raw)
        assert (head.piece, bytes(data)) == (expected.piece, expected.data)


@given(st.binary(max_size=60))
def test_other_bytes_are_read_as_protobuf_reads_them_or_refused_as_well(raw: bytes) -> None:
    try:
        expected = pb.PutBlobRequest.FromString(raw)
    except DecodeError:
        with pytest.raises(DecodeError):
            read_put_request(raw)
        return
    head, data = read_put_request(raw)
    assert (head.digest, head.num_bytes, head.piece) == (expected.digest, expected.num_bytes, expected.piece)
    assert bytes(data) == expected.data
