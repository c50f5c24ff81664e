# SPDX-License-Identifier: Apache-2.0
"""Exports at the coordinator: bounded, made beside its work, and gone once they are on their way."""

import threading
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator import metrics_desk, telemetry
from coordinator.metrics_blob import LEAF, PHASES, TELEMETRY, Record, read_blob
from coordinator.metrics_desk import EXPORTS, MAX_UNTAKEN, MetricsDesk, Question
from coordinator.observations import Progress
from coordinator.phases import PhaseLog
from coordinator.telemetry import TelemetryStore
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedFileSystem
from federation.ledger.log import Ledger
from federation.messages import Query, QueryKind, Telemetry
from federation.testing.history import history

LEAVES = history() * 20


class Place:
    """A coordinator's files."""

    def __init__(self) -> None:
        self.fs = SimulatedFileSystem()
        self.blobs = BlobStore(self.fs)
        self.ledger = Ledger.create(self.fs, "ledger", "origin.example", Ed25519PrivateKey.generate())
        self.ledger.append(LEAVES)

    def question(self, identifier: str = "q", operator: str = "olga", size: int = -1) -> Question:
        return Question(
            operator=operator,
            query=Query(id=identifier, kind=QueryKind.METRICS, subject="demo"),
            size=self.ledger.size if size < 0 else size,
            sites=("alpha", "beta"),
            document={"run": "demo", "note": "100%s"},
        )

    def records(self, digest: str) -> list[Record]:
        return list(read_blob(partial(self.blobs.read_range, digest)))


@pytest.fixture
def place() -> Place:
    return Place()


def test_an_answer_holds_the_exact_leaves_and_stored_lines(place: Place) -> None:
    store = TelemetryStore(place.fs)
    store.add("beta", Telemetry(run="demo", allocation="a", lines=('{"num_steps": 1}',)), 5.0)
    place.fs.rename(*telemetry.paths("beta"))
    TelemetryStore(place.fs).add("beta", Telemetry(run="demo", allocation="a", lines=('{"num_steps": 2}',)), 6.0)
    PhaseLog(place.fs).note("alpha", {}, {"demo/3": Progress(answered_at=5.0)})
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    desk.ask(place.question(size=300), ())
    (answer,) = desk.finished()
    found = place.records(answer.blob)
    assert [r.data for r in found if r.kind == LEAF] == [place.ledger.leaf_bytes(index) for index in range(300)]
    lines = [r.data for r in found if r.kind == TELEMETRY]
    assert [b'"num_steps": 1' in lines[0], b'"num_steps": 2' in lines[1], len(lines)] == [True, True, 2]
    (phases,) = (r.data for r in found if r.kind == PHASES)
    assert phases.startswith(b'alpha\n{"run": "demo", "round": 3, "mark": "answered"')
    assert f'"export": "{answer.blob}"' in answer.reply.document
    assert '"note": "100%s"' in answer.reply.document
    assert list(desk.finished()) == []


def test_two_questions_never_share_a_blob(place: Place) -> None:
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    for identifier in ("q1", "q2"):
        desk.ask(place.question(identifier), ())
    one, two = desk.finished()
    assert one.blob != two.blob


def test_what_is_posted_leaves_the_store_and_its_link_stays(place: Place) -> None:
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    desk.ask(place.question(), ())
    (answer,) = desk.finished()
    assert place.fs.list(EXPORTS) == [answer.blob]
    place.blobs.link_to(answer.blob, "mailbox/olga/out/blobs/x")
    desk.posted(answer, 7)
    assert list(place.blobs.digests()) == []
    assert place.fs.list(EXPORTS) == []
    assert place.fs.size("mailbox/olga/out/blobs/x") > 0


def test_a_restart_takes_away_what_a_crash_left(place: Place) -> None:
    kept = place.blobs.put(b"a payload")
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    desk.ask(place.question(), ())
    place.fs.write(f"{EXPORTS}/no-digest", b"")
    fs = place.fs.crash()
    assert len(list(BlobStore(fs).digests())) == 2
    MetricsDesk(fs=fs, blobs=BlobStore(fs))
    assert list(BlobStore(fs).digests()) == [kept]
    assert fs.list(EXPORTS) == ["no-digest"]


def test_an_operator_who_takes_nothing_gets_no_more(place: Place) -> None:
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    for number in range(MAX_UNTAKEN):
        desk.ask(place.question(f"q{number}"), range(1, number + 1))
        (answer,) = desk.finished()
        desk.posted(answer, number + 1)
    desk.ask(place.question("more"), range(1, 99))
    desk.ask(place.question("other", operator="vera"), ())
    refused, other = desk.finished()
    assert (refused.reply.ok, refused.blob, other.reply.ok) == (False, "", True)
    assert f"at most {MAX_UNTAKEN}" in refused.reply.sentence
    desk.posted(refused, 5)
    desk.ask(place.question("again"), (5,))
    (answer,) = desk.finished()
    assert answer.reply.ok


def test_questions_that_wait_count_too(place: Place) -> None:
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    for number in range(MAX_UNTAKEN + 1):
        desk.ask(place.question(f"q{number}"), ())
    assert [answer.reply.ok for answer in desk.finished()] == [True] * MAX_UNTAKEN + [False]
    desk.ask(place.question("later"), ())
    assert [answer.reply.ok for answer in desk.finished()] == [True]


def test_the_rounds_room_on_the_disk_is_not_for_exports(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.fs, "free_bytes", lambda: metrics_desk.RESERVE_BYTES - 1)
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    desk.ask(place.question(), ())
    (answer,) = desk.finished()
    assert (answer.reply.ok, answer.blob) == (False, "")
    assert "free space at the coordinator" in answer.reply.sentence


@pytest.mark.parametrize("limit", ["disk", "size"])
def test_an_export_that_does_not_fit_is_an_answer_and_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "disk":
        place.fs.fail_writes_after(100)
    else:
        monkeypatch.setattr(metrics_desk, "MAX_BLOB_BYTES", 100)
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs)
    desk.ask(place.question(), ())
    (answer,) = desk.finished()
    assert (answer.reply.ok, answer.blob) == (False, "")
    assert list(place.blobs.digests()) == []
    assert place.fs.list(EXPORTS) == []


def test_in_the_background_the_driver_is_told_when_it_is_done(place: Place) -> None:
    done = threading.Event()
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs, in_background=True, on_done=done.set)
    desk.ask(place.question(), ())
    assert done.wait(30)
    (answer,) = desk.finished()
    assert answer.reply.ok
    desk.close()


def test_a_coordinator_that_ends_does_not_wait_for_an_export(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stopping = threading.Event(), threading.Event()
    write_blob = metrics_desk.write_blob

    def slow(*arguments: object) -> None:
        begun.set()
        assert stopping.wait(30)
        write_blob(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(metrics_desk, "write_blob", slow)
    desk = MetricsDesk(fs=place.fs, blobs=place.blobs, in_background=True)
    desk.ask(place.question(), ())
    assert begun.wait(30)
    closing = threading.Thread(target=desk.close)
    desk._background._stopping.set()
    stopping.set()
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert list(desk.finished()) == []
    assert list(place.blobs.digests()) == []


def test_files_that_change_while_they_are_read_lose_no_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TelemetryStore(place.fs)
    store.add("alpha", Telemetry(run="demo", allocation="a", lines=('{"num_steps": 1}',)), 5.0)
    newer, older = telemetry.paths("alpha")
    read_range = place.fs.read_range

    def changing(path: str, offset: int, length: int) -> bytes:
        found = read_range(path, offset, length)
        if path == newer:
            monkeypatch.setattr(place.fs, "read_range", read_range)
            place.fs.rename(newer, older)
            TelemetryStore(place.fs).add("alpha", Telemetry(run="demo", allocation="a", lines=("{}",)), 6.0)
        return found

    monkeypatch.setattr(place.fs, "read_range", changing)
    found = b"".join(lines for _, lines in metrics_desk.stored_lines(place.fs, "alpha", telemetry.paths("alpha")))
    assert found.count(b'"num_steps": 1') >= 1
