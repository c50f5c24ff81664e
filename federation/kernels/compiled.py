# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: numba, strict IEEE arithmetic, no interpreter lock, results kept between processes.

Nothing is reassociated or contracted to a fused multiply-add (`fastmath` off), division by zero gives infinity as in
numpy, and bounds are not checked, so a kernel never indexes by a value that it has not checked itself.

The compiled code is kept beside the package or, where that is read-only, in numba's directory of the user;
`NUMBA_CACHE_DIR` comes before both. Where nothing can be written it is compiled again in each process. numba tells
stale code by the one source file that a kernel is in, and by the processor: so a kernel calls compiled functions of its
own file only, and whoever changes the options below removes what is kept.

Only the modules of this package import this one, and only once they are needed: importing numba takes most of a second.
"""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import numba
import numpy as np
from numba import types

P = ParamSpec("P")
R = TypeVar("R")

Integer: TypeAlias = int | np.int64
"""One and the same in compiled code; the second is written where something else is converted."""

BYTES_IN: Final[Any] = types.Array(types.uint8, 1, "C", readonly=True)
BYTES_OUT: Final[Any] = types.Array(types.uint8, 1, "C")
FLOATS_IN: Final[Any] = types.Array(types.float32, 1, "C", readonly=True)
FLOATS_OUT: Final[Any] = types.Array(types.float32, 1, "C")
BLOCKS_IN: Final[Any] = types.Array(types.float32, 2, "C", readonly=True)
BLOCKS_OUT: Final[Any] = types.Array(types.float32, 2, "C")
STORED_IN: Final[Any] = types.Array(types.uint8, 2, "C", readonly=True)
STORED_OUT: Final[Any] = types.Array(types.uint8, 2, "C")
HALVES_IN: Final[Any] = types.Array(types.uint16, 1, "C", readonly=True)
HALVES_OUT: Final[Any] = types.Array(types.uint16, 1, "C")
DOUBLES_OUT: Final[Any] = types.Array(types.float64, 1, "C")
FLOAT: Final[Any] = types.float32
BITS: Final[Any] = types.uint32
COUNT: Final[Any] = types.int64
NOTHING: Final[Any] = types.void
STATUS: Final[Any] = types.int64
"""0: done. Anything else: refused; the numpy reference has the reason."""

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


def compiled(result: Any, *arguments: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a kernel of that signature in numba's types: it is compiled, or found compiled, when it is defined."""
    signature = result(*arguments)

    def compile_now(kernel: Callable[P, R]) -> Callable[P, R]:
        function: Callable[P, R]
        try:
            function = numba.njit(signature, cache=True, **_OPTIONS)(kernel)
        except (RuntimeError, OSError):
            # numba found no directory that it may write, or could not write there.
            function = numba.njit(signature, **_OPTIONS)(kernel)
        return function

    return compile_now


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a part of the kernels of the same file; compiled with each of them."""
    part: Callable[P, R] = numba.njit(**_OPTIONS)(function)
    return part


def disabled() -> bool:
    """Whether the environment (`NUMBA_DISABLE_JIT`) asks for no compiled code at all."""
    return bool(numba.config.DISABLE_JIT)
