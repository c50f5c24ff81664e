# SPDX-License-Identifier: Apache-2.0
"""The C library's allocator, told that this process hands large buffers from thread to thread.

glibc gives threads arenas of their own, up to eight per processor, and keeps in each what was freed there. Pieces of
blobs are allocated by one thread and freed by another, so that with many sites every arena grows to what the busiest
moment needed. Few arenas share what was freed.
"""

import ctypes
from typing import Final

MAX_ARENAS: Final = 2

_M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""


def limit_arenas(num_arenas: int = MAX_ARENAS) -> bool:
    """At most so many arenas from now on, best before threads start; returns whether the C library takes the advice."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt is not None and mallopt(_M_ARENA_MAX, num_arenas))
