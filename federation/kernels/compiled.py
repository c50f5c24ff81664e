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
from numba.core import cgutils
from numba.extending import intrinsic

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
COUNTS_IN: Final[Any] = types.Array(types.int64, 1, "C", readonly=True)
DOUBLE_ROWS_OUT: Final[Any] = types.Array(types.float64, 2, "C")
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


def tuple_of(element: Any, length: int) -> Any:
    """The type of a tuple of so many of one type."""
    return types.UniTuple(element, length)


def address_of(kernel: Any, result: Any, *arguments: Any) -> int:
    """Where the compiled code of a kernel of that signature begins."""
    found = kernel.get_compile_result(result(*arguments))
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def call_at(result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function for kernels, which calls another one of that signature by its address: f(address, ...).

    numba's own first-class functions do the same, but looking up addresses takes them most of a millisecond a call.
    """

    def call(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention, taken = context.call_conv, signature.args[1:]
        pointer = convention.get_function_type(signature.return_type, taken).as_pointer()
        function = builder.inttoptr(values[0], pointer)
        status, returned = convention.call_function(builder, function, signature.return_type, taken, values[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return returned

    if len(arguments) == 2:

        def two(_typing: Any, address: Any, x: Any, y: Any) -> Any:
            return result(COUNT, *arguments), call

        calling_two: Callable[..., Any] = intrinsic(two)
        return calling_two

    def three(_typing: Any, address: Any, x: Any, y: Any, z: Any) -> Any:
        return result(COUNT, *arguments), call

    calling_three: Callable[..., Any] = intrinsic(three)
    return calling_three


@intrinsic  # type: ignore[untyped-decorator]
def pointer_to(_typing: Any, address: Any) -> Any:
    """For kernels: the bytes at an address, as `numba.carray` takes them."""

    def convert(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint8)(COUNT), convert


def disabled() -> bool:
    """Whether the environment (`NUMBA_DISABLE_JIT`) asks for no compiled code at all."""
    return bool(numba.config.DISABLE_JIT)
