# SPDX-License-Identifier: Apache-2.0
"""Stores of (theta, m, r) per fragment and version: a cache of ledger and blobs that can be rebuilt."""
