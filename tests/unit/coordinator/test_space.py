# SPDX-License-Identifier: Apache-2.0
"""What a round may need of the disk, and the sentence where there is less."""

from pathlib import Path

import pytest

from coordinator.space import RESERVE_BYTES, round_bytes, short_of_disk
from federation import leaves as lv
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from federation.rounds import Federation, Run, apply
from federation.state.memory_store import MemoryStateStore
from federation.state.tiered_store import TieredStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

RUN = "run-1"
SIZES = (2**21, 2**20)
SITES = {"alpha": 2, "beta": 2, "gamma": 2}


class Disk(RealFileSystem):
    """One with as much room as the test says."""

    free = 0

    def free_bytes(self) -> int:
        return self.free


def manifest() -> Manifest:
    plan = plan_of(SITES, num_fragments=2)
    tables = [table_of([(f"w{number}", (size,))]) for number, size in enumerate(SIZES)]
    return manifest_of(plan, tables, momentum=0.9, up="int4", down="int8")


def running(*, started: bool = True) -> Federation:
    state = Federation()
    bodies: list[lv.Body] = [
        lv.RunCreatedV1(run=RUN, manifest_digest="m" * 64, plan=manifest().plan, operator="o", command="c"),
        lv.RunApprovedV1(run=RUN, operator="o", command="a"),
        lv.RunStartedV1(run=RUN, operator="o", command="s"),
    ]
    for body in bodies if started else bodies[:2]:
        state = apply(state, lv.Leaf(at_us=1, body=body))
    return state


def opened(state: Federation) -> Federation:
    run = state.runs[RUN]
    body = lv.RoundOpenedV1(
        run=RUN,
        round=run.next_round,
        fragment=run.next_round % 2,
        base_version=0,
        base_digest=run.heads()[run.next_round % 2].theta_digest,
        lr_position=0,
        invitations=(lv.Invitation(site="alpha", allocation="a1", num_steps=2),),
        sentence="",
    )
    return apply(state, lv.Leaf(at_us=1, body=body))


def run_of(state: Federation) -> Run:
    return state.runs[RUN]


def payloads(fragment: int) -> int:
    up, down = (payload_bytes(get_codec(name), SIZES[fragment]) for name in ("int4", "int8"))
    return len(SITES) * up + down


def test_a_round_needs_its_payloads_and_the_state_that_is_not_there_yet(tmp_path: Path) -> None:
    states = TieredStateStore(RealFileSystem(tmp_path))
    assert round_bytes(run_of(running()), manifest(), states) == RESERVE_BYTES + payloads(0) + (36 + 24) * SIZES[0]


def test_rounds_that_are_open_need_theirs_too() -> None:
    first = opened(running())
    both = RESERVE_BYTES + payloads(0) + payloads(1)
    assert round_bytes(run_of(running()), manifest(), MemoryStateStore()) == RESERVE_BYTES + payloads(0)
    assert round_bytes(run_of(first), manifest(), MemoryStateStore()) == both
    assert round_bytes(run_of(opened(first)), manifest(), MemoryStateStore()) == both


@pytest.mark.parametrize("room", [-1, 0])
def test_less_room_than_that_is_told(tmp_path: Path, room: int) -> None:
    fs, state = Disk(tmp_path), running()
    states = TieredStateStore(fs)
    needed = round_bytes(run_of(state), manifest(), states)
    fs.free = needed + room
    found = short_of_disk(state, fs, states, lambda _: manifest())
    assert found == ({} if room == 0 else {RUN: f"a round needs {needed} bytes of free space, found {fs.free}"})


def test_a_run_that_is_not_running_needs_nothing(tmp_path: Path) -> None:
    fs = Disk(tmp_path)
    assert short_of_disk(running(started=False), fs, TieredStateStore(fs), lambda _: manifest()) == {}
