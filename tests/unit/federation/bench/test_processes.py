# SPDX-License-Identifier: Apache-2.0
"""What is measured of processes: anonymous memory, bytes on a link; and the samples that figures are made of."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from federation.bench.anonymous import PeakAnonymous, anonymous_bytes, rollup_bytes
from federation.bench.counted_link import Carried, CountedLink
from federation.bench.figures import Samples, machine
from federation.bench.processes import wait_until
from federation.bench.references import copy_model_seconds, write_seconds

MIB = 1024 * 1024
HOLDS_MEMORY = """
import sys
print(flush=True); sys.stdin.readline()
held = bytearray(b"x") * (64 * 2**20)
print(flush=True); sys.stdin.readline()
del held
print(flush=True); sys.stdin.readline()
"""


def test_the_peak_of_anonymous_memory_is_seen() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDS_MEMORY], stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def go_on() -> None:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            child.stdout.readline()

        child.stdout.readline()
        with PeakAnonymous(child.pid) as memory:
            wait_until(lambda: memory.num_samples > 1, 10.0, "samples")
            before = memory.restart()
            go_on()
            wait_until(lambda: memory.peak > before + 60 * MIB, 10.0, "the memory that was allocated")
            go_on()
            seen = memory.restart()
            wait_until(lambda: 0 < memory.peak < before + 30 * MIB, 10.0, "a peak counted anew")
        child.stdin.close()
    assert before + 60 * MIB < seen < before + 90 * MIB


def test_both_ways_of_counting_agree() -> None:
    held = bytearray(os.urandom(32 * MIB))
    quick, exact = anonymous_bytes(Path("/proc/self/status").read_bytes()), rollup_bytes(os.getpid())
    assert len(held) < exact
    assert abs(quick - exact) < 8 * MIB


@contextmanager
def echoing() -> Iterator[int]:
    """Sends back twice what one connection brings, half of it closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65_536):
                    connection.sendall(data + data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_link_counts_what_passes() -> None:
    with echoing() as port, CountedLink(f"127.0.0.1:{port}", os.environ) as link:
        assert link.carried() == Carried(up=0, down=0)
        host, _, own = link.address.rpartition(":")
        with socket.create_connection((host, int(own))) as connection:
            connection.sendall(bytes(1000))
            found = b""
            while len(found) < 2000:
                found += connection.recv(65_536)
        first = link.carried()
        assert first == Carried(up=1000, down=2000)
        assert link.carried() - first == Carried(up=0, down=0)


def test_samples_say_how_far_they_spread() -> None:
    document = Samples.of([3.0, 1.0, 2.5]).document
    assert (document["median"], document["lowest"], document["highest"], document["num_samples"]) == (2.5, 1.0, 3.0, 3)
    with pytest.raises(ValueError, match="at least one"):
        Samples.of([])


def test_references_are_measured_and_leave_nothing(tmp_path: Path) -> None:
    assert len(copy_model_seconds(1000).values) == 5
    assert min(write_seconds(tmp_path, 1_500_000, 2).values) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_machine_is_named() -> None:
    assert machine()["num_cpus"] >= 1
    assert machine()["cpu"]
    assert machine()["compiler"].startswith("numba ")
