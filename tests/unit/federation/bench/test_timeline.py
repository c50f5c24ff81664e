# SPDX-License-Identifier: Apache-2.0
"""A round's instants: the last party counts, and nothing is made up where a mark is missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from federation.bench.marks import Mark, Marks
from federation.bench.setting import WorldSetting
from federation.bench.timeline import PHASES, Timeline, timelines
from federation.bench.world import World
from federation.errors import JobFailedError

SETTING = WorldSetting(num_sites=2)
A, B = SETTING.sites


def job(site: str, late: float, theta: str = "t") -> Iterator[Mark]:
    """A site's marks of round 4; `late` seconds behind."""
    at = {"boundary": 1, "encode-end": 2, "published": 3, "outcome-seen": 9, "applied": 10}
    facts = {"published": {"digest": f"payload of {site}"}, "applied": {"theta": theta}}
    for name, seconds in at.items():
        yield {"mark": name, "at": seconds + late, "round": 4, **facts.get(name, {})}


def coordinator() -> Iterator[Mark]:
    for site, at in ((A, 5.0), (B, 5.5), (A, 4.8)):
        yield {"mark": "piece", "at": at, "site": site, "digest": f"payload of {site}", "piece": 0}
    for kind, at in (("VerdictV1", 6.0), ("VerdictV1", 6.25), ("RoundSealedV1", 6.5), ("RoundCommittedV1", 8.0)):
        yield {"mark": "leaf", "at": at, "kind": kind, "round": 4}
    yield {"mark": "leaf", "at": 11.0, "kind": "StateRecordedV1", "round": 4}


def posted(site: str) -> Iterator[Mark]:
    yield {"mark": "posted", "at": 4.0, "kind": "PostCosignature", "key": "cosignature/17"}
    yield {"mark": "posted", "at": 4.0 if site == A else 4.5, "kind": "PostUpdate", "key": "update/bench/4/digest"}


def world_of(directory: Path, files: dict[str, list[Mark]]) -> World:
    for name, marks in files.items():
        (directory / name).write_text("".join(json.dumps(mark) + "\n" for mark in marks))

    def read(name: str) -> Marks:
        return Marks(directory / name)

    return cast(
        World,
        SimpleNamespace(
            setting=SETTING,
            site_marks=read,
            agent_marks=lambda site: read(f"agent-{site}"),
            coordinator_marks=lambda: read("coordinator"),
        ),
    )


def files(**changes: Any) -> dict[str, list[Mark]]:
    usual = {A: list(job(A, 0.0)), B: list(job(B, 0.125)), "coordinator": list(coordinator())}
    usual |= {f"agent-{site}": list(posted(site)) for site in (A, B)}
    return {**usual, **changes}


def only(tmp_path: Path, **changes: Any) -> Timeline:
    (found,) = timelines(world_of(tmp_path, files(**changes)), [4])
    return found


def test_the_last_party_counts(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert found.began == 1.0
    assert found.ends == (2.125, 3.125, 4.5, 5.5, 6.25, 6.5, 8.0, 9.125, 10.125)
    assert found.seconds == 9.125
    assert found.critical_seconds == 8.0 - 5.5
    assert found.recorded_seconds == 11.0 - 10.125


def test_the_phases_make_up_the_round(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert tuple(found.phase_seconds()) == PHASES
    assert sum(found.phase_seconds().values()) == pytest.approx(found.seconds)


def test_a_payload_that_came_by_no_network_is_noticed(tmp_path: Path) -> None:
    pieces = [mark for mark in coordinator() if mark.get("site") != B]
    with pytest.raises(JobFailedError, match="over the network"):
        only(tmp_path, coordinator=pieces)


def test_sites_with_other_bits_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="same theta"):
        only(tmp_path, **{B: list(job(B, 0.0, theta="u"))})


@pytest.mark.parametrize("missing", ["boundary", "encode-end", "published", "outcome-seen", "applied"])
def test_a_missing_mark_of_a_site_is_noticed(tmp_path: Path, missing: str) -> None:
    with pytest.raises(JobFailedError, match=missing):
        only(tmp_path, **{A: [mark for mark in job(A, 0.0) if mark["mark"] != missing]})


@pytest.mark.parametrize("missing", ["VerdictV1", "RoundSealedV1", "RoundCommittedV1", "StateRecordedV1"])
def test_a_missing_leaf_is_noticed(tmp_path: Path, missing: str) -> None:
    with pytest.raises(JobFailedError, match=missing):
        only(tmp_path, coordinator=[mark for mark in coordinator() if mark.get("kind") != missing])


def test_an_update_that_no_agent_posted_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="posted"):
        only(tmp_path, **{f"agent-{A}": []})
