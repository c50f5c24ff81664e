# SPDX-License-Identifier: Apache-2.0
"""The stored results of the golden cases, and the comparison of this machine's arithmetic with them."""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from federation.durable.real import RealFileSystem
from federation.errors import FederationError, NumericsMismatchError
from federation.golden.case import Case
from federation.golden.cases import golden_cases
from federation.kernels.dispatch import compiler
from federation.manifest import NUMERICS_VERSION

DIRECTORY: Final = Path(__file__).parent
VECTORS: Final = "vectors.json"
_FULL_BYTES: Final = 256
"""Results up to this size are stored whole, longer ones as a digest and their first bytes."""

_HEAD_BYTES: Final = 32


def check_golden_vectors(
    cases: Mapping[str, Case] | None = None, expected: Mapping[str, Mapping[str, Any]] | None = None
) -> int:
    """Computes every case and compares; returns their number.

    Takes about a second; half a minute where no compiled code is kept yet.

    Args:
        cases, expected: of the package where not given.

    Raises:
        NumericsMismatchError: a case gives other bytes; the message names all of those cases.
    """
    cases = golden_cases() if cases is None else cases
    expected = load_vectors() if expected is None else expected
    wrong = sorted(cases.keys() ^ expected.keys())
    wrong += [name for name in sorted(cases.keys() & expected.keys()) if not _matches(cases[name], expected[name])]
    if wrong:
        raise NumericsMismatchError(
            f"golden vectors of numerics version {NUMERICS_VERSION}: expected {len(expected)} cases to match, found "
            f"other bytes in {', '.join(wrong)} (numpy {np.__version__}, {compiler() or 'no compiler'}, "
            f"{platform.machine()})",
            advice="This machine would not compute the run's bits: check numpy's build and flush-to-zero settings.",
        )
    return len(cases)


@cache
def require_golden_vectors() -> None:
    """Compares once in this process. Raises NumericsMismatchError."""
    check_golden_vectors()


def _matches(case: Case, expected: Mapping[str, Any]) -> bool:
    try:
        return summary(case()) == expected
    except (FederationError, ArithmeticError, AssertionError):
        # Wrong arithmetic may well produce what a codec's own checks refuse, or its reference does not.
        return False


def load_vectors() -> dict[str, dict[str, Any]]:
    """The vectors shipped in the package, by case.

    Raises:
        NumericsMismatchError: they are missing or of another numerics version.
    """
    path = DIRECTORY / VECTORS
    if not path.exists():
        raise NumericsMismatchError(
            f"golden vectors: expected {path}, found nothing", advice="Install the package again."
        )
    data = json.loads(path.read_text("ascii"))
    if data["numerics_version"] != NUMERICS_VERSION:
        raise NumericsMismatchError(
            f"golden vectors: expected numerics version {NUMERICS_VERSION}, found {data['numerics_version']}"
        )
    cases: dict[str, dict[str, Any]] = data["cases"]
    return cases


def summary(result: bytes) -> dict[str, Any]:
    """What is stored of a result: its length, and its bytes or their digest and beginning."""
    if len(result) <= _FULL_BYTES:
        return {"bytes": len(result), "hex": result.hex()}
    return {
        "bytes": len(result),
        "sha256": hashlib.sha256(result).hexdigest(),
        "head": result[:_HEAD_BYTES].hex(),
    }


def write_vectors(directory: Path) -> None:
    """Computes every case here and replaces the vectors in `directory`."""
    cases = {name: summary(case()) for name, case in sorted(golden_cases().items())}
    document = {"numerics_version": NUMERICS_VERSION, "cases": cases}
    RealFileSystem(directory).write(VECTORS, (json.dumps(document, indent=1) + "\n").encode("ascii"))
