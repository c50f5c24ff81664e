# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from coordinator.notices.heartbeat import Heartbeat, issuers_not_after_us
from federation.certificates import make_issuer, pem
from federation.directory_lock import STALE_SECONDS, DirectoryLock, this_process
from federation.durable.real import RealFileSystem
from federation.tls_keys import generate_tls_key


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_directory_that_nobody_ever_served_is_stopped(tmp_path: Path) -> None:
    seen = Heartbeat(RealFileSystem(tmp_path)).look()
    assert seen.stopped
    assert list(tmp_path.iterdir()) == []  # it only reads


def test_a_counter_that_rises_is_a_sign_of_life_and_one_that_stands_still_is_none(tmp_path: Path) -> None:
    fs, clock = RealFileSystem(tmp_path), Clock()
    lock = DirectoryLock(fs, this_process())
    heartbeat = Heartbeat(fs, clock)
    before = sorted(tmp_path.rglob("*"))
    for _ in range(3):
        clock.now += STALE_SECONDS
        lock.beat()
        seen = heartbeat.look()
        assert (seen.quiet_seconds, seen.stopped) == (0.0, False)
    assert f"process {this_process().pid}" in seen.owner
    assert seen.since > 1e9
    clock.now += STALE_SECONDS + 1
    assert heartbeat.look().quiet_seconds == STALE_SECONDS + 1
    assert {p.suffix for p in set(tmp_path.rglob("*")) - set(before)} <= {".beat"}  # nothing of the watcher's
    lock.release()
    assert heartbeat.look().stopped
    again = DirectoryLock(fs, this_process())
    again.beat()
    seen = heartbeat.look()
    assert (seen.stopped, seen.quiet_seconds) == (False, 0.0)


def test_the_first_issuer_to_expire_counts(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    assert issuers_not_after_us(fs) == 0
    for name, days in (("tls-issuer", 30), ("enrolment-issuer", 20)):
        fs.write(f"keys/{name}.crt", pem(make_issuer(name, generate_tls_key(), 1_000_000.0, days)))
    assert abs(issuers_not_after_us(fs) / 1e6 - (1_000_000.0 + 20 * 86_400)) < 2
    fs.write("keys/tls-issuer.crt", b"junk")
    assert issuers_not_after_us(fs) > 0
