# SPDX-License-Identifier: Apache-2.0
"""Rollbacks, chains of commits, snapshots and full disks on several ranks: the bits of one undisturbed process."""

from pathlib import Path

import pytest
from job_bench.case import NUM_ROUNDS, Case, R, toy_manifest
from job_bench.toy import WIDE
from rank_bench.toy_site import ToySite

from federation.chunks import fragment_digest, little_endian_bytes
from federation.reference import RoundPlan
from site_agent.failures import code_of_error
from site_agent.jobs import EndCode, OutcomeFile, OutcomeKind, write_record

pytestmark = pytest.mark.processes

LATE = {n: RoundPlan(absent=frozenset("a")) for n in range(4)}


def roll_back(case: Case) -> None:
    """Everything after round 0 is void, round 3 was open then; round 4 is ordered on what is left."""
    case.end(1, 2, kind=OutcomeKind.REVERTED)
    write_record(case.run, R.outcome(3), OutcomeFile(round=3, kind=OutcomeKind.ABANDONED, fragment=1))
    case.order(4, base_version=1, base_digest=fragment_digest(case.reference.history[0].theta), generation=1)


def expected_after_rollback(tmp_path: Path) -> bytes:
    """Round 4's payload of one process, whose rollback has tests of its own."""
    (tmp_path / "alone").mkdir()
    case = Case(tmp_path / "alone", toy_manifest(shapes=WIDE), shapes=WIDE)
    case.order(0, 1, 2)
    case.end(0, 1, 2)
    case.train()
    roll_back(case)
    case.train()
    return case.allocation.read("updates/4.payload")


@pytest.mark.parametrize(("before", "after"), [(2, 2), (3, 2), (2, 3)])
def test_after_a_rollback_every_rank_begins_anew_from_the_versions_left(
    tmp_path: Path, before: int, after: int
) -> None:
    site = ToySite(tmp_path / "site")
    site.allocate("a1")
    site.order(0, 1, 2)
    site.end(0, 1, 2)
    assert site.run_ranks(before) == [0] * before, site.said()
    site.allocate("a2")
    roll_back(site)
    assert site.run_ranks(after) == [0] * after, site.said()
    assert site.payload(4) == expected_after_rollback(tmp_path)
    assert "every fragment is reloaded, versions [1, 0]" in site.said()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("from_snapshots", [False, True], ids=["links", "snapshots"])
def test_a_job_that_skipped_rounds_builds_theta_from_what_there_is(
    tmp_path: Path, size: int, from_snapshots: bool
) -> None:
    site = ToySite(tmp_path, LATE)
    site.allocate("a1")
    site.order(4, 5)
    site.end(0, 1, 2, 3, 4)  # two links of each fragment, and one to merge
    if from_snapshots:
        end_with_snapshots(site)
    assert site.run_ranks(size) == [0] * size, site.said()
    for number in (4, 5):
        assert site.payload(number) == site.reference.history[number].payloads["a"]


def end_with_snapshots(site: ToySite, **changes: object) -> None:
    """Round 0 is bare, rounds 1 and 2 are snapshots, round 3 has its blob."""
    site.end(0, blob_path="")
    for number in (1, 2):
        path = site.root / f"{number}.theta"
        path.write_bytes(bytes(little_endian_bytes(site.reference.history[number].theta)))
        site.end(number, blob_path="", snapshot_path=str(path), **changes)


def test_a_wrong_snapshot_ends_every_rank_with_that_word(tmp_path: Path) -> None:
    site = ToySite(tmp_path, LATE)
    site.allocate("a1")
    site.order(4)
    site.end(0, 1, 2, 3)
    end_with_snapshots(site, theta_digest="11" * 32)
    assert site.run_ranks(3) == [1, 1, 1], site.said()
    assert site.ended().code is EndCode.SNAPSHOT_REFUSED
    everybody_says(site, 3, "expected a snapshot of version")


@pytest.mark.parametrize("size", [2, 3])
def test_a_copy_that_one_rank_spoiled_is_rebuilt_along_the_chain(tmp_path: Path, size: int) -> None:
    site = ToySite(tmp_path)
    site.allocate("a1")
    site.order(0, 1, 2, 3, 4)
    site.end(0, 1, 2, 3)
    # Between boundary and merge of round 2, whose commit then gives another digest; rank 1 owns a part in both sizes.
    # Rank 0 still has the version before it then, the others have worked in place: all must go back as far.
    assert site.run_ranks(size, {1: {"DIVERGES_AT": "6"}, 0: {"KEEPS_AT": "6"}}) == [0] * size, site.said()
    assert "rebuilding from theta_0" in site.said()
    for number in (2, 3, 4):
        assert site.payload(number) == site.reference.history[number].payloads["a"]


FULL = [
    (2, 0, "part@3"),
    (2, 1, "part@3"),
    (3, 2, "part@3"),
    (2, 0, "record@2"),
    (2, 0, "payload@2"),
    (3, 0, "payload@2"),
    (2, 0, "publish@2"),
    (2, 0, "report@2"),
]


@pytest.mark.parametrize(("size", "rank", "what"), FULL, ids=[f"{n}-ranks-{r}-{what}" for n, r, what in FULL])
def test_a_full_disk_ends_every_rank_alike_and_with_room_the_same_bits_go_on(
    tmp_path: Path, size: int, rank: int, what: str
) -> None:
    site = ToySite(tmp_path)
    site.allocate("a1")
    site.order(*range(NUM_ROUNDS))
    site.end(*range(NUM_ROUNDS))
    assert site.run_ranks(size, {rank: {"FULL_DISK": what}}) == [1] * size, site.said()
    ended = site.ended()
    assert code_of_error(ended.code.value, ended.reason, ended.sentence) == "no-space", ended
    everybody_says(site, size, "expected room for")
    sent = {n: site.payload(n) for n in range(NUM_ROUNDS) if site.update(n)}
    assert len(sent) < NUM_ROUNDS

    site.allocate("a2")
    site.order(*range(NUM_ROUNDS))
    assert site.run_ranks(size) == [0] * size, site.said()
    sent |= {n: site.payload(n) for n in range(NUM_ROUNDS) if site.update(n)}
    assert sent == {n: site.reference.history[n].payloads["a"] for n in range(NUM_ROUNDS)}


def everybody_says(site: ToySite, size: int, words: str) -> None:
    """The same reason stands at the end of every rank's log: that is all of its way out."""
    for rank in range(size):
        last = (site.logs / f"rank{rank}.err").read_text().splitlines()[-2:]  # what happened, and what to do
        assert any(words in line for line in last), f"rank {rank}\n{site.said()}"
