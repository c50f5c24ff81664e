# SPDX-License-Identifier: Apache-2.0
"""What comes in over ssh becomes part of the mailbox only whole and right."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.mailbox.layout import message_name
from federation.merkle import blob_digest
from site_agent.carrier.staging import Staging

BLOB = b"blob" * 1000
DIGEST = blob_digest(BLOB)


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    return RealFileSystem(tmp_path)


@pytest.fixture
def staging(fs: RealFileSystem) -> Staging:
    return Staging(fs, "box")


def test_a_whole_blob_is_taken_and_half_of_one_is_kept(fs: RealFileSystem, staging: Staging) -> None:
    assert not staging.take_blob(DIGEST, len(BLOB))
    (staging.path / DIGEST).write_bytes(BLOB[:5])
    assert not staging.take_blob(DIGEST, len(BLOB))
    assert (staging.path / DIGEST).exists()
    (staging.path / DIGEST).write_bytes(BLOB)
    assert staging.take_blob(DIGEST, len(BLOB))
    assert fs.read(f"box/in/blobs/{DIGEST}") == BLOB
    assert list(staging.path.iterdir()) == []


@pytest.mark.parametrize("wrong", [BLOB[:-1] + b"?", BLOB + b"?"])
def test_a_wrong_blob_is_thrown_away(fs: RealFileSystem, staging: Staging, wrong: bytes) -> None:
    (staging.path / DIGEST).write_bytes(wrong)
    assert not staging.take_blob(DIGEST, len(BLOB))
    assert list(staging.path.iterdir()) == []
    assert fs.list("box/in/blobs") == []


def test_links_are_not_followed(fs: RealFileSystem, staging: Staging, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BLOB)
    (staging.path / DIGEST).symlink_to(tmp_path / "secret")
    (staging.path / "ack").symlink_to(tmp_path / "secret")
    assert not staging.take_blob(DIGEST, len(BLOB))
    assert not staging.take_acknowledgement()
    staging.forget_all_but(set())
    assert (tmp_path / "secret").read_bytes() == BLOB


def test_a_message_is_taken_if_its_name_speaks_of_it(fs: RealFileSystem, staging: Staging) -> None:
    right, wrong = message_name(1, b"one"), message_name(2, b"two")
    (staging.path / right).write_bytes(b"one")
    (staging.path / wrong).write_bytes(b"tw")
    assert [staging.take_message(name) for name in (right, wrong, "no-name")] == [True, False, False]
    assert fs.list("box/in") == [right]
    assert list(staging.path.iterdir()) == []


def test_an_acknowledgement_is_taken_once(fs: RealFileSystem, staging: Staging) -> None:
    taken = []
    for slot in (b"", b"one", b"one", b"two"):
        (staging.path / "ack").write_bytes(slot)
        taken.append(staging.take_acknowledgement())
    assert taken == [False, True, False, True]
    assert fs.read("box/in/ack") == b"two"


def test_what_was_withdrawn_or_never_asked_for_is_forgotten(staging: Staging) -> None:
    for name in (DIGEST, "other", ".carrier-partial"):
        (staging.path / name).write_bytes(b"")
    staging.forget_all_but({DIGEST})
    assert sorted(path.name for path in staging.path.iterdir()) == [".carrier-partial", DIGEST]
