# SPDX-License-Identifier: Apache-2.0
"""A seeded simulator of the whole federation in one thread: the main test harness for crashes, delays and losses."""
