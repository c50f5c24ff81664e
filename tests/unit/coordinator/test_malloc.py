# SPDX-License-Identifier: Apache-2.0
"""The allocator's arenas are limited: in a process of its own, since it cannot be taken back."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
from coordinator import malloc
libc = ctypes.CDLL(None)
if sys.argv[1] == "limited" and not malloc.limit_arenas():
    sys.exit(3)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
together, heaps = threading.Barrier(16), set()

def take():
    together.wait()
    heaps.add(libc.malloc(1000) // 2**26)  # each arena but the first has heaps that begin at multiples of 64 MiB
    together.wait()

threads = [threading.Thread(target=take) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(heaps))
"""


def num_heaps(how: str) -> int:
    found = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60)
    if found.returncode == 3:
        pytest.skip("this C library takes no advice on arenas")
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


def test_many_threads_share_few_arenas() -> None:
    limited = num_heaps("limited")
    assert limited <= 3, "two arenas: the first one's heap may lie across a multiple"
    assert num_heaps("as they are") > limited
