# SPDX-License-Identifier: Apache-2.0
"""One append-only Merkle log per consortium: the coordinator's `Ledger`, and the `LedgerCopy` that every site keeps."""
