# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of codecs, fold and outer step: a machine that does not reproduce them must not join a run."""

from federation.golden.vectors import check_golden_vectors, require_golden_vectors

__all__ = ["check_golden_vectors", "require_golden_vectors"]
