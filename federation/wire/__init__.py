# SPDX-License-Identifier: Apache-2.0
"""Exact bytes of everything that is sent, signed or appended; the only package that touches protobuf classes."""

from federation.wire.documents import (
    clip_sentence,
    evaluation_from_bytes,
    evaluation_to_bytes,
    leaf_from_bytes,
    leaf_to_bytes,
    manifest_from_bytes,
    manifest_to_bytes,
    message_from_bytes,
    message_to_bytes,
    request_from_bytes,
    request_to_bytes,
    roster_from_bytes,
    roster_to_bytes,
    tasks_from_bytes,
    tasks_to_bytes,
    update_from_bytes,
    update_to_bytes,
)

__all__ = [
    "clip_sentence",
    "evaluation_from_bytes",
    "evaluation_to_bytes",
    "leaf_from_bytes",
    "leaf_to_bytes",
    "manifest_from_bytes",
    "manifest_to_bytes",
    "message_from_bytes",
    "message_to_bytes",
    "request_from_bytes",
    "request_to_bytes",
    "roster_from_bytes",
    "roster_to_bytes",
    "tasks_from_bytes",
    "tasks_to_bytes",
    "update_from_bytes",
    "update_to_bytes",
]
