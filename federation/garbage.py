# SPDX-License-Identifier: Apache-2.0
"""Garbage collection of processes that run for weeks."""

import gc


def spare_what_is_loaded() -> None:
    """Leaves what exists now out of all collections to come: modules and state that live as long as the process.

    Otherwise each full collection walks through them all, tens of milliseconds in the midst of a round.
    """
    gc.collect()
    gc.freeze()
