# SPDX-License-Identifier: Apache-2.0
"""The central coordinator: decides with deciders that do no I/O, carries out what they ask, writes the ledger."""
