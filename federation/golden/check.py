# SPDX-License-Identifier: Apache-2.0
"""`python -m federation.golden.check [--write]`: does this machine compute a run's bits?

`--write` replaces the stored vectors first, which is right only together with a new `NUMERICS_VERSION`.
"""

import sys
from collections.abc import Sequence

from federation.errors import FederationError
from federation.golden.vectors import DIRECTORY, check_golden_vectors, write_vectors


def main(arguments: Sequence[str]) -> int:
    """The command: exits 0 if every case matches, 1 if not, 2 for an unknown argument."""
    if arguments and list(arguments) != ["--write"]:
        print("usage: python -m federation.golden.check [--write]", file=sys.stderr)
        return 2
    try:
        if arguments:
            write_vectors(DIRECTORY)
        print(f"{check_golden_vectors()} golden vectors match")
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
